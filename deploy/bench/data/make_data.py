"""Makes the files that the comparison reads, the same ones each time."""

import pathlib
import sys

import numpy as np

PRODUCTS = 10_000
CATEGORIES = 120
STATUSES = np.array(["paid", "open", "cancelled", "returned"])
REGIONS = np.array(["north", "south", "east", "west", "centre"])
CHUNK = 500_000


def write_products(path):
    numbers = np.arange(PRODUCTS)
    random = np.random.default_rng(7)
    with open(path, "w") as file:
        file.write("id,name,category,weight\n")
        weights = random.integers(1, 5000, PRODUCTS) / 100
        for number, weight in zip(numbers, weights):
            file.write(f"{number},product {number},category {number % CATEGORIES},{weight}\n")


def write_orders(path, rows):
    random = np.random.default_rng(42)
    days = np.arange(np.datetime64("2025-01-01"), np.datetime64("2026-01-01")).astype(str)
    with open(path, "w") as file:
        file.write(
            "order_id,customer_id,product_id,day,status,region,quantity,amount,discount,note\n"
        )
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            columns = [
                np.arange(start, start + count).astype(str),
                random.integers(1, 200_000, count).astype(str),
                random.integers(0, PRODUCTS, count).astype(str),
                days[random.integers(0, len(days), count)],
                STATUSES[random.choice(4, count, p=[0.7, 0.15, 0.1, 0.05])],
                REGIONS[random.integers(0, 5, count)],
                random.integers(1, 20, count).astype(str),
                (random.integers(100, 1_000_000, count) / 100).astype(str),
                (random.integers(0, 50, count) / 100).astype(str),
                np.char.add("order note ", random.integers(0, 100_000, count).astype(str)),
            ]
            file.writelines(",".join(row) + "\n" for row in zip(*columns))


if __name__ == "__main__":
    folder, rows = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    write_products(folder / "products.csv")
    write_orders(folder / "orders.csv", rows)
