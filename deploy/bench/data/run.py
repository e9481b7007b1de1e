"""Runs the same work on tables as a flow of Millstream and as scripts of DuckDB,
Polars and pandas, in turns, and prints how long each took.

Millstream is measured from outside: from the POST with await=true to its answer.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PEERS = ["duckdb", "polars", "pandas"]
WORKS = {
    "file": "read CSV, filter, join, group, write Parquet; types declared",
    "inferred": "the same; types found in the data",
    "end_to_end": "the same as the first, and the result into SQLite and PostgreSQL",
    "load": "all rows of the CSV into PostgreSQL",
}
TYPES = (
    "{ order_id: integer, customer_id: integer, product_id: integer, day: date, status: string, "
    "region: string, quantity: integer, amount: number, discount: number, note: string }"
)
SUMS = """
  - id: products
    read: { path: products.csv }
  - id: sums
    sql: |
      select p.category, o.day, count(*) as orders, sum(o.quantity) as quantity,
             sum(o.amount * (1 - o.discount)) as amount
      from orders o join products p on p.id = o.product_id
      where o.status = 'paid' and o.amount > 10
      group by p.category, o.day
  - id: out
    write: { path: millstream.parquet, from: sums }
"""
LOADS = """
  - id: sqlite
    load: { connection: bench-sqlite, table: sums, from: sums, mode: replace, create: true }
  - id: postgres
    load: { connection: bench-postgres, table: sums, from: sums, mode: replace, create: true }
"""
ORDERS = f"  - id: orders\n    read: {{ path: orders.csv, columns: {TYPES} }}"
FLOWS = {
    "file": f"steps:\n{ORDERS}{SUMS}",
    "inferred": f"steps:\n  - id: orders\n    read: {{ path: orders.csv }}{SUMS}",
    "end_to_end": f"steps:\n{ORDERS}{SUMS}{LOADS}",
    "load": f"steps:\n{ORDERS}\n  - id: out\n"
    "    load: { connection: bench-postgres, table: orders, from: orders, mode: replace }\n",
    "large": "steps:\n  - id: orders\n    read: { path: large/orders.csv }\n"
    "  - id: sums\n    sql: |\n"
    "      select region, status, day, count(*) as orders, sum(amount) as amount, max(note) as note\n"
    "      from orders group by region, status, day\n"
    "  - id: out\n    write: { path: large/sums.csv, from: sums }\n",
}
ORDERS_TABLE = (
    "create table orders (order_id bigint, customer_id bigint, product_id bigint, day date, "
    "status text, region text, quantity bigint, amount double precision, "
    "discount double precision, note text)"
)


class Service:
    """The running Millstream."""

    def __init__(self, url, key):
        self.url, self.key = url, key

    def ask(self, method, path, body=None, kind="application/json"):
        request = urllib.request.Request(self.url + path, method=method, data=body)
        request.add_header("x-api-key", self.key)
        request.add_header("content-type", kind)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def publish(self, flow, text):
        body = f"id: {flow}\n{text}".encode()
        self.ask("PUT", f"/api/admin/v1/dataflows/{flow}", body, "application/yaml")

    def connect(self, name, connection):
        body = json.dumps(connection).encode()
        self.ask("PUT", f"/api/admin/v1/connections/{name}", body)

    def timed_run(self, flow):
        began = time.perf_counter()
        path = f"/api/pub/v1/dataflows/{flow}/start?await=true"
        status = self.ask("POST", path, b"")["status"]
        seconds = time.perf_counter() - began
        if status != "Succeeded":
            sys.exit(f"the flow {flow} ended as {status}: the log of the service has more")
        return seconds


class Postgres:
    """A PostgreSQL server of its own, as it is after its installation."""

    def __init__(self, folder):
        programs = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
        self.programs = programs[-1] if programs else pathlib.Path(shutil.which("initdb")).parent
        self.folder = folder / "postgres"
        self.folder.mkdir()
        self.user = []
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        data = self.folder / "data"
        self.run("initdb", "-U", "millstream", "-A", "trust", "-E", "UTF8", "--no-locale", "-D", data)
        self.port = free_port()
        self.server = subprocess.Popen(
            [*self.user, self.programs / "postgres", "-D", data, "-k", self.folder]
            + ["-c", "listen_addresses=127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.address = f"host=127.0.0.1 port={self.port} user=millstream dbname=postgres"
        deadline = time.monotonic() + 60
        while self.psql("select 1", check=False).returncode != 0:
            if time.monotonic() > deadline:
                sys.exit("PostgreSQL does not start")
            time.sleep(0.1)

    def run(self, program, *arguments):
        command = [*self.user, self.programs / program, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def psql(self, command, check=True):
        program = [self.programs / "psql", self.address, "-q", "-t", "-A", "-c", command]
        return subprocess.run(program, check=check, capture_output=True, text=True)

    def connection(self):
        return {"kind": "postgres", "host": "127.0.0.1", "port": self.port, "database": "postgres",
                "user": "millstream", "password": "unused-here"}  # fmt: skip

    def stop(self):
        self.server.terminate()
        self.server.wait()


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def timed_peer(tool, work, folder, postgres):
    command = [sys.executable, HERE / "peers.py", tool, work, folder, postgres.address]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{tool} failed:\n{done.stderr}")
    return float(done.stdout)


def timed_copy(folder, postgres):
    postgres.psql("truncate orders")
    began = time.perf_counter()
    postgres.psql(f"\\copy orders from '{folder}/orders.csv' (format csv, header true)")
    return time.perf_counter() - began


def check_same(work, folder, postgres):
    """Every tool must have come to the same."""
    import pyarrow.parquet as parquet

    if work == "load":
        return
    tools = ["millstream", *PEERS]
    tables = [parquet.read_table(folder / f"{tool}.parquet") for tool in tools]
    found = [(len(table), sum(table["orders"].to_pylist()), sum(table["quantity"].to_pylist()),
              round(sum(table["amount"].to_pylist()))) for table in tables]  # fmt: skip
    if len(set(found)) != 1:
        sys.exit(f"the results of {work} differ: {dict(zip(tools, found))}")


def compare(service, folder, postgres, rounds):
    print(f"{rows_in(folder / 'orders.csv'):,} rows, {rounds} rounds, seconds (least to most)\n")
    tools = ["millstream", *PEERS]
    print(f"{'':12}" + "".join(f"{tool:>26}" for tool in [*tools, "psql \\copy"]))
    for work, words in WORKS.items():
        seconds = {}
        for turn in range(rounds + 1):
            for tool in tools:
                if tool == "millstream":
                    took = service.timed_run(f"bench-{work.replace('_', '-')}")
                else:
                    took = timed_peer(tool, work, folder, postgres)
                if turn > 0:
                    seconds.setdefault(tool, []).append(took)
            if work == "load" and turn > 0:
                seconds.setdefault("copy", []).append(timed_copy(folder, postgres))
        check_same(work, folder, postgres)
        medians = {tool: statistics.median(took) for tool, took in seconds.items()}
        cells = [f"{medians[tool]:.3f} ({min(took):.3f} to {max(took):.3f})"
                 for tool, took in seconds.items()]  # fmt: skip
        print(f"{work:12}" + "".join(f"{cell:>26}" for cell in cells))
        best = min(medians[tool] for tool in ("duckdb", "polars"))
        ratio = f"{medians['millstream'] / best:.2f} x the better of DuckDB and Polars"
        if work == "load":
            ratio += f", {medians['millstream'] / medians['copy']:.2f} x psql \\copy"
        print(f"{'':12}  {words}: {ratio}\n")


def rows_in(path):
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) - 1


def large(service, folder, gigabytes, pid):
    """A file that is larger than the memory that the service may take."""
    path = folder / "large" / "orders.csv"
    path.parent.mkdir()
    size = (folder / "orders.csv").stat().st_size
    with open(path, "wb") as file:
        header, _, rows = (folder / "orders.csv").read_bytes().partition(b"\n")
        file.write(header + b"\n")
        while file.tell() < gigabytes * 10**9:
            file.write(rows)
    service.publish("bench-large", FLOWS["large"])
    seconds = service.timed_run("bench-large")
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    memory = os.environ.get("MILLSTREAM_MEMORY", "half of the machine's memory")
    print(f"A CSV of {path.stat().st_size / 1e9:.1f} GB through read, sql (group by) and write, "
          f"types found in the data, with --memory {memory}: {seconds:.1f} s, "
          f"peak resident memory of API and worker together {int(peak.split()[1]) / 1024:.0f} MiB")  # fmt: skip


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--url", required=True)
    arguments.add_argument("--key-file", required=True, type=pathlib.Path)
    arguments.add_argument("--folder", required=True, type=pathlib.Path)
    arguments.add_argument("--pid", required=True, type=int)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--large", type=float, metavar="GIGABYTES")
    given = arguments.parse_args()
    folder = given.folder
    service = Service(given.url, given.key_file.read_text().strip())
    subprocess.run([sys.executable, HERE / "make_data.py", folder, str(given.rows)], check=True)
    if given.large:
        return large(service, folder, given.large, given.pid)
    postgres = Postgres(folder)
    try:
        postgres.psql(ORDERS_TABLE)
        service.connect("bench-postgres", postgres.connection())
        service.connect("bench-sqlite", {"kind": "sqlite", "path": "millstream.sqlite"})
        for work in WORKS:
            service.publish(f"bench-{work.replace('_', '-')}", FLOWS[work])
        compare(service, folder, postgres, given.rounds)
    finally:
        postgres.stop()


if __name__ == "__main__":
    main()
