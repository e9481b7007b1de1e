#!/usr/bin/env python3
"""Makes the files in `data/` anew. Needs Python 3.9 and the package tzdata.

The orders and customers are invented, the same ones each time. The countries,
zones and clock changes are those of the time zone database, which is in the
public domain; its version follows from the machine this runs on.
"""

import csv
import datetime as dt
import json
import pathlib
import random
import shutil
import zoneinfo

DATA = pathlib.Path(__file__).resolve().parent / "data"
ZONES = pathlib.Path("/usr/share/zoneinfo")

ORDERS = 4000
CUSTOMERS = 240
YEAR = 2025
CLOSED_ACCOUNTS = 12
CLOCK_YEARS = range(2020, 2031)

# Where customers are, and how often.
MARKETS = {"NO": 30, "SE": 18, "DK": 12, "FI": 9, "DE": 11, "GB": 8, "NL": 6, "PL": 4, "IS": 2}
SEGMENTS = ["retail", "wholesale", "public"]
PRODUCTS = {"anchor": 89.0, "buoy": 34.5, "chart": 19.9, "compass": 145.0, "rope": 2.75, "sail": 890.0}
FIRST = ["Nord", "Fjord", "Berg", "Sol", "Havn", "Skog", "Elv", "Vind", "Stein", "Lys"]
LAST = ["handel", "marine", "import", "supply", "verk", "lager"]


def lines(path, rows):
    """Writes rows as comma-separated values, the first being the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def pick(draw, weights):
    """One of the keys, as often as its weight says."""
    # `random()` is the one method whose numbers never change between versions.
    place = draw.random() * sum(weights.values())
    for key, weight in weights.items():
        place -= weight
        if place < 0:
            return key
    return key


def sales():
    draw = random.Random(20250101)
    customers = []
    for number in range(1, CUSTOMERS + 1):
        name = FIRST[int(draw.random() * len(FIRST))] + LAST[int(draw.random() * len(LAST))]
        segment = SEGMENTS[int(draw.random() * len(SEGMENTS))]
        customers.append((1000 + number, f"{name} {number}", pick(draw, MARKETS), segment))
    lines(DATA / "customers.csv", [("customer_id", "name", "country", "segment"), *customers])

    first = dt.date(YEAR, 1, 1)
    days = sorted(int(draw.random() * 365) for _ in range(ORDERS))
    months = {}
    for number, day in enumerate(days):
        date = first + dt.timedelta(days=day)
        # Some accounts were closed since: orders of theirs have no customer.
        customer = 1001 + int(draw.random() * (CUSTOMERS + CLOSED_ACCOUNTS / 10))
        product = pick(draw, dict.fromkeys(PRODUCTS, 1))
        quantity = 1 + int(draw.random() ** 3 * 40)
        amount = f"{quantity * PRODUCTS[product]:.2f}"
        row = (50001 + number, customer, date.isoformat(), product, quantity, amount)
        months.setdefault(f"{date:%Y-%m}", []).append(row)
    header = ("order_id", "customer_id", "ordered_on", "product", "quantity", "amount")
    for month, orders in months.items():
        lines(DATA / "orders" / f"{month}.csv", [header, *orders])


def table(name):
    """The rows of one of the tables that come with the time zone database."""
    text = (ZONES / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


def minutes(zone, moment):
    return int(moment.astimezone(zone).utcoffset().total_seconds() // 60)


def changes(name):
    """When the offset of a zone from UTC changes, to the second."""
    zone = zoneinfo.ZoneInfo(name)
    day = dt.timedelta(days=1)
    early = dt.datetime(CLOCK_YEARS.start, 1, 1, tzinfo=dt.timezone.utc)
    end = dt.datetime(CLOCK_YEARS.stop, 1, 1, tzinfo=dt.timezone.utc)
    while early < end:
        before, after = minutes(zone, early), minutes(zone, early + day)
        if before != after:
            low, high = early, early + day
            while high - low > dt.timedelta(seconds=1):
                middle = low + (high - low) // 2
                middle = middle.replace(microsecond=0)
                low, high = (middle, high) if minutes(zone, middle) == before else (low, middle)
            yield high, before, after
        early += day


def clocks():
    lines(DATA / "countries.csv", [("code", "name"), *table("iso3166.tab")])
    places, by_year = [("country", "zone")], {}
    for codes, _, name, *_ in table("zone1970.tab"):
        places += [(code, name) for code in codes.split(",")]
        for moment, before, after in changes(name):
            at = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
            change = {"zone": name, "at": at, "minutes_before": before, "minutes_after": after}
            by_year.setdefault(moment.year, []).append(change)
    lines(DATA / "zones.csv", places)
    for year, found in by_year.items():
        found.sort(key=lambda change: (change["at"], change["zone"]))
        path = DATA / "clock-changes" / f"{year}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(change) + "\n" for change in found))


if __name__ == "__main__":
    shutil.rmtree(DATA, ignore_errors=True)
    sales()
    clocks()
