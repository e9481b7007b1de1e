"""What the flows of the comparison do, with DuckDB, Polars and pandas.

Called as `peers.py TOOL WORK FOLDER POSTGRES`; prints the seconds that the work
took, without those for starting Python and loading the library.
"""

import io
import pathlib
import sqlite3
import sys
import time

INTEGERS = ["order_id", "customer_id", "product_id", "quantity"]
NUMBERS = ["amount", "discount"]
TEXTS = ["status", "region", "note"]
ORDER = [
    "order_id", "customer_id", "product_id", "day", "status", "region", "quantity", "amount",
    "discount", "note",
]  # fmt: skip
RESULT = "category text, day date, orders bigint, quantity bigint, amount double precision"
INSERT = "insert into sums values (?, ?, ?, ?, ?)"
QUERY = """
    select p.category, o.day, count(*) as orders, sum(o.quantity)::bigint as quantity,
           sum(o.amount * (1 - o.discount)) as amount
    from {orders} o join {products} p on p.id = o.product_id
    where o.status = 'paid' and o.amount > 10
    group by p.category, o.day
"""


def duckdb_type(name):
    if name in INTEGERS:
        return "BIGINT"
    if name in NUMBERS:
        return "DOUBLE"
    return "DATE" if name == "day" else "VARCHAR"


def duckdb_sums(folder, typed):
    import duckdb

    types = ", ".join(f"'{name}': '{duckdb_type(name)}'" for name in ORDER)
    orders = f"read_csv('{folder}/orders.csv'" + (f", columns={{{types}}})" if typed else ")")
    products = f"read_csv('{folder}/products.csv')"
    database = duckdb.connect()
    sums = QUERY.format(orders=orders, products=products)
    database.execute(f"copy ({sums}) to '{folder}/duckdb.parquet' (format parquet, compression zstd)")
    return database.execute(f"select * from '{folder}/duckdb.parquet'")


def polars_sums(folder, typed):
    import polars as pl

    types = {name: pl.Int64 for name in INTEGERS} | {name: pl.Float64 for name in NUMBERS}
    types |= {name: pl.String for name in TEXTS} | {"day": pl.Date}
    options = {"schema_overrides": types} if typed else {"try_parse_dates": True}
    orders = pl.scan_csv(folder / "orders.csv", **options)
    products = pl.scan_csv(folder / "products.csv")
    paid = orders.filter((pl.col("status") == "paid") & (pl.col("amount") > 10))
    joined = paid.join(products, left_on="product_id", right_on="id")
    sums = joined.group_by("category", "day").agg(
        pl.len().cast(pl.Int64).alias("orders"),
        pl.col("quantity").sum(),
        (pl.col("amount") * (1 - pl.col("discount"))).sum(),
    )
    table = sums.collect(engine="streaming")
    table.write_parquet(folder / "polars.parquet", compression="zstd", compression_level=1)
    return table


def pandas_sums(folder, typed):
    import pandas as pd

    types = {name: "int64" for name in INTEGERS} | {name: "float64" for name in NUMBERS}
    types |= {name: "str" for name in TEXTS}
    options = {"dtype": types} if typed else {}
    orders = pd.read_csv(folder / "orders.csv", parse_dates=["day"], **options)
    products = pd.read_csv(folder / "products.csv")
    paid = orders[(orders.status == "paid") & (orders.amount > 10)]
    joined = paid.merge(products, left_on="product_id", right_on="id")
    joined["amount"] = joined.amount * (1 - joined.discount)
    groups = joined.groupby(["category", "day"])
    sums = groups.agg(
        orders=("order_id", "size"), quantity=("quantity", "sum"), amount=("amount", "sum")
    ).reset_index()
    sums["day"] = sums.day.dt.date
    sums.to_parquet(folder / "pandas.parquet", compression="zstd")
    return sums


def rows_of(tool, table):
    if tool == "duckdb":
        return table.fetchall()
    if tool == "polars":
        return table.rows()
    return list(table.itertuples(index=False, name=None))


def to_sqlite(path, rows):
    with sqlite3.connect(path) as database:
        database.execute(f"create table if not exists sums ({RESULT})")
        database.execute("delete from sums")
        database.executemany(INSERT, ((row[0], str(row[1]), *row[2:]) for row in rows))


def to_postgres(address, rows):
    import psycopg

    with psycopg.connect(address) as database, database.cursor() as cursor:
        cursor.execute(f"create table if not exists sums ({RESULT})")
        cursor.execute("truncate sums")
        with cursor.copy("copy sums from stdin") as copy:
            for row in rows:
                copy.write_row(row)


def load_orders(tool, folder, address):
    """All orders into PostgreSQL, through the types of the tool."""
    import psycopg

    if tool == "duckdb":
        import duckdb

        types = ", ".join(f"'{name}': '{duckdb_type(name)}'" for name in ORDER)
        orders = f"read_csv('{folder}/orders.csv', columns={{{types}}})"
        text = folder / "duckdb.csv"
        duckdb.execute(f"copy (select * from {orders}) to '{text}' (header false)")
        source = open(text, "rb")
    elif tool == "polars":
        import polars as pl

        types = {name: pl.Int64 for name in INTEGERS} | {name: pl.Float64 for name in NUMBERS}
        types |= {name: pl.String for name in TEXTS} | {"day": pl.Date}
        source = io.BytesIO()
        pl.read_csv(folder / "orders.csv", schema_overrides=types).write_csv(
            source, include_header=False
        )
        source.seek(0)
    else:
        import pandas as pd

        source = io.BytesIO()
        pd.read_csv(folder / "orders.csv").to_csv(source, header=False, index=False)
        source.seek(0)
    with psycopg.connect(address) as database, database.cursor() as cursor:
        cursor.execute("truncate orders")
        with cursor.copy("copy orders from stdin (format csv)") as copy:
            while block := source.read(1 << 20):
                copy.write(block)


def main(tool, work, folder, address):
    folder = pathlib.Path(folder)
    # Loading the library is not the work.
    __import__(tool)
    if work not in ("file", "inferred"):
        __import__("psycopg")
    began = time.perf_counter()
    if work == "load":
        load_orders(tool, folder, address)
    else:
        table = globals()[f"{tool}_sums"](folder, work != "inferred")
        if work == "end_to_end":
            rows = rows_of(tool, table)
            to_sqlite(folder / f"{tool}.sqlite", rows)
            to_postgres(address, rows)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
