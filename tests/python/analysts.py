#!/usr/bin/env python3
"""Proves docs/analysts.md: makes a market, exports its log in every format, reads the exports with DuckDB and pyarrow, and
runs every command, query and program of the page, comparing figures with the market's own books.

    analysts.py SOUK [INVOICES]

The recipes are run over real invoices, too: the first of them in online-retail.csv.gz, which is no part of the project and is
looked for in SOUK_DATA_DIR, else in ../shared/data beside the repository. With a file of invoices they are run over all of that,
and over nothing else."""

import csv
import gzip
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as dataset
import pyarrow.parquet as pq

from shop import Fair, Invoices, Souk, environment

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "analysts.md"
REAL = Path(os.environ.get("SOUK_DATA_DIR", ROOT.parent / "shared" / "data")).absolute() / "online-retail.csv.gz"
FIRST = 2200  # invoices of 25,900, until January: a program built for tests takes a while for all of them
TEXT, JSON = pa.string(), pa.json_()
COLUMNS = {
    "position": pa.int64(), "stream": TEXT, "category": TEXT, "stream_id": TEXT, "revision": pa.int64(), "type": TEXT,
    "version": pa.int32(), "recorded_at": pa.timestamp("us", "UTC"), "occurred_at": pa.timestamp("us", "UTC"),
    "actor": TEXT, "amount": pa.int64(), "currency": TEXT, "correlation_id": TEXT, "causation_id": TEXT,
    "command_id": TEXT, "data": JSON, "metadata": JSON, "id": TEXT, "hash": TEXT,
}  # fmt: skip


def main(binary, invoices=None):
    if invoices:
        return with_market(binary, on_real_invoices, invoices)
    with_market(binary, on_known_invoices)
    print("docs/analysts.md holds", flush=True)
    if REAL.exists():
        with_market(binary, on_real_invoices)
        print(f"docs/analysts.md holds for the first {FIRST} real invoices")
    else:
        print(f"SKIPPED: the cookbook on real invoices, {REAL} is not there (set SOUK_DATA_DIR)")


def with_market(binary, work, *arguments):
    folder = Path(tempfile.mkdtemp(prefix="souk-analysts-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user where we are root
    souk = Souk(binary, str(folder / "data"))
    try:
        work(souk, folder, *arguments)
    finally:
        try:
            souk.stop()
        finally:
            os.chdir(ROOT)
            shutil.rmtree(folder)


def on_known_invoices(souk, folder):
    books = Invoices(folder / "invoices.csv")
    souk.run("import", "invoices", folder / "invoices.csv")
    souk.serve()
    fair = Fair(souk)
    formats_agree(souk, folder)
    Recipes(souk, folder).check(books, fair)


def on_real_invoices(souk, folder, invoices=None):
    if not invoices:
        invoices = folder / "first.csv"
        first_invoices(FIRST, invoices)
    told = souk.run("import", "invoices", invoices)
    print(told)
    orders, revenue, completed = re.search(r"in the event log +(\S+) +(\S+) +(\S+) completed", told).groups()
    assert orders == completed, told
    Recipes(souk, folder).show(int(orders.replace(",", "")), int(re.sub("[,.]", "", revenue)))


def first_invoices(count, path):
    """Whole invoices of the file, from its beginning."""
    numbers = set()
    with gzip.open(REAL, "rt", newline="") as file, open(path, "w", newline="") as first:
        rows, write = csv.reader(file), csv.writer(first).writerow
        write(next(rows))
        for row in rows:
            numbers.add(row[0])
            if len(numbers) > count:
                break
            write(row)
    assert len(numbers) > count, f"{REAL} has lost its invoices"


def formats_agree(souk, folder):
    """One log, five exports: the same events, typed where there are types."""
    for name in ["all.ndjson", "all.ndjson.gz", "all.csv", "all.parquet"]:
        souk.run("events", "export", "--output", folder / name)
    souk.run("events", "export", "--format", "parquet", "--partition", "day", "--output", folder / "days")
    lines = (folder / "all.ndjson").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    positions = [event["position"] for event in events]
    assert positions == list(range(len(events))) and len(events) > 2000, len(events)
    assert gzip.open(folder / "all.ndjson.gz", "rt").read().splitlines() == lines

    table = pq.read_table(folder / "all.parquet")
    assert {field.name: field.type for field in table.schema} == COLUMNS, table.schema
    rows = table.to_pylist()
    for event, row in zip(events, rows, strict=True):
        same = ["position", "stream", "revision", "type", "version", "actor", "id", "hash"]
        assert all(event[name] == row[name] for name in same), (event, row)
        assert (event["correlationId"], event["causationId"]) == (row["correlation_id"], row["causation_id"])
        assert f"{row['category']}-{row['stream_id']}" == row["stream"]
        assert event["data"] == json.loads(row["data"])
        envelope = json.loads(row["metadata"])
        assert envelope["schemaVersion"] == row["version"] and envelope["commandId"] == row["command_id"]
        for name, camel in [("recorded_at", "recordedAt"), ("occurred_at", "occurredAt")]:
            assert datetime.fromisoformat(event[camel]) == row[name], (event, row)
        money = next((event["data"][name] for name in ["total", "amount", "price"] if name in event["data"]), {})
        assert (row["amount"], row["currency"]) == (money.get("amount"), money.get("currency"))
    assert any(row["amount"] for row in rows)

    with open(folder / "all.csv", newline="") as file:
        for row, text in zip(rows, csv.DictReader(file), strict=True):
            assert list(text) == list(COLUMNS)
            for name, value in row.items():
                if isinstance(value, datetime):
                    assert datetime.fromisoformat(text[name]) == value
                else:
                    assert text[name] == ("" if value is None else str(value))

    days = dataset.dataset(folder / "days", partitioning="hive").to_table().sort_by("position")
    assert days.select(list(COLUMNS)).to_pylist() == rows
    assert all(str(day) == f"{at:%F}" for day, at in zip(days["day"].to_pylist(), days["recorded_at"].to_pylist()))

    # DuckDB sees the same, with its own types.
    types = duckdb.sql(f"DESCRIBE SELECT * FROM '{folder}/all.parquet'").fetchall()
    types = {name: type for name, type, *_ in types}
    assert types["recorded_at"] == "TIMESTAMP WITH TIME ZONE" and types["amount"] == "BIGINT", types
    assert types["data"] == "JSON" and types["version"] == "INTEGER", types
    for source in [f"'{folder}/all.parquet'", f"'{folder}/days/**/*.parquet'", f"read_csv('{folder}/all.csv')"]:
        found = duckdb.sql(f"SELECT count(*), sum(position), count(DISTINCT hash), sum(amount) FROM {source}").fetchall()[0]
        total = sum(row["amount"] or 0 for row in rows)
        assert found == (len(rows), sum(positions), len(rows), total), (source, found)
    found = duckdb.sql(f"SELECT count(*) FROM read_json('{folder}/all.ndjson.gz', format = 'newline_delimited')").fetchall()[0]
    assert found == (len(rows),)

    # And so does SQL on the file, in the columns that exports have.
    file = sqlite3.connect(f"file:{souk.data}/events.sqlite?mode=ro", uri=True)
    file.row_factory = sqlite3.Row
    for row in file.execute("SELECT * FROM events WHERE position < ? ORDER BY position", [len(rows)]):
        for name, value in rows[row["position"]].items():
            seen = datetime.fromisoformat(row[name]) if isinstance(value, datetime) else row[name]
            assert seen == value, (name, seen, value)
    assert file.execute("SELECT sum(events) FROM streams").fetchone()[0] >= len(rows)


def plain(value):
    """Times in UTC, with their zone or without."""
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


class Recipes:
    """The blocks of the page, run where a reader would run them."""

    def __init__(self, souk, folder):
        self.souk, self.folder = souk, folder / "desk"
        self.folder.mkdir()
        blocks = re.findall(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", PAGE.read_text(), re.S | re.M)
        self.blocks = [(language, name, text) for language, name, text in blocks]
        assert len(self.blocks) > 15, "the page has lost its blocks"

    def shell(self, **variables):
        """Everything that is typed, with a souk on the path that is interrupted where it would go on for ever."""
        path = self.folder / "bin"
        path.mkdir()
        wrapper = path / "souk"
        wrapper.write_text(
            f'#!/bin/sh\ncase "$*" in "events tail"*) timeout -s INT 1 "{self.souk.binary}" "$@" || [ $? = 124 ] ;;\n'
            f'*) exec "{self.souk.binary}" "$@" ;; esac\n'
        )
        wrapper.chmod(0o755)
        env = environment(self.souk) | variables | {"PATH": f"{path}:{os.environ['PATH']}"}
        for language, _, text in self.blocks:
            if language == "sh":
                done = subprocess.run(["sh", "-ec", text], cwd=self.folder, env=env, capture_output=True, text=True)
                assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"

    def run(self, name, **parameters):
        """The rows of a recipe, once for each way in which the page tells it."""
        found = []
        os.chdir(self.folder)
        for language, label, text in self.blocks:
            if label != name:
                continue
            if language == "python":
                names = {}
                exec(compile(text, f"analysts.md: {name}", "exec"), names)
                rows = names[name]
                rows = [tuple(row.values()) for row in rows.to_pylist()] if isinstance(rows, pa.Table) else rows
            elif text.startswith("-- sqlite"):
                file = sqlite3.connect(f"file:{self.souk.data}/events.sqlite?mode=ro", uri=True)
                rows = file.execute(text, parameters).fetchall()
            else:
                duckdb.sql("SET TimeZone = 'America/New_York'")  # wherever the reader is
                rows = duckdb.sql(text).fetchall()
            found.append([tuple(map(plain, row)) for row in rows])
        assert found, f"the page has no recipe {name}"
        return found

    def check(self, books, fair):
        state = json.loads(self.souk.run("events", "state", f"order-{fair.order}"))
        self.shell(ORDER=fair.order, ITEM=fair.item, POSITION=str(state["position"]), TOKEN=fair.analyst)

        # Revenue: to the penny, in whatever way it is asked for.
        imported = [(day, country, "GBP", *sold) for (day, country), sold in sorted(books.revenue.items())]
        for rows in self.run("revenue"):
            assert [row for row in rows if row[2] == "GBP"] == imported, rows
            ours = [row[3:] for row in rows if row[2] == "USD"]
            assert tuple(map(sum, zip(*ours))) == (fair.completed, 3 * fair.PRICE), ours
        for rows in self.run("by_month"):
            months = Counter()
            for day, country, currency, orders, pennies in imported:
                months[f"{day:%Y-%m}", country, "orders"] += orders
                months[f"{day:%Y-%m}", country, "pennies"] += pennies
            found = {(m, c): (n, p) for m, c, currency, n, p in rows if currency == "GBP"}
            assert found == {(m, c): (months[m, c, "orders"], months[m, c, "pennies"]) for m, c, _ in months}, rows

        # Carts.
        expected = [(month, n, n, n, 1.0) for month, n in sorted(books.months.items())]
        for rows in self.run("conversion"):
            assert rows[:-1] == expected, rows
            assert rows[-1][1:] == (fair.carts, fair.orders, fair.completed, round(fair.completed / fair.carts, 3)), rows[-1]

        # Stock.
        assert self.run("turned_away") == [[fair.turned_away]]
        everything = self.run("stock_outs")
        assert len(everything) == 2 and everything[0] == everything[1], everything
        lamps = [until for sku, since, until in everything[0] if sku == "lamp"]
        assert len(lamps) == fair.stock_outs and None not in lamps, lamps
        # Every price of every good was stocked as far as it was sold, and so was sold out some time.
        assert {sku.split("/")[0] for sku, *_ in everything[0]} > {f"{22000 + good}" for good in range(10)}

        # Pairs.
        placed = books.orders + fair.orders
        pairs = sorted(books.pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:20]
        for rows in self.run("together"):
            assert [(one, other, n) for one, other, n, _ in rows] == [(*pair, n) for pair, n in pairs], rows
            for one, other, n, lift in rows:
                by_hand = n * placed / (books.single[one] * books.single[other])
                assert abs(lift - by_hand) < 0.011, (one, other, lift, by_hand)

        # And what is not about figures.
        (kinds,) = self.run("kinds")
        assert {kind for _, kind, _ in kinds} >= {"ItemListed", "OrderCompleted", "StockReserved"}, kinds
        (slowest,) = self.run("slowest")
        assert len(slowest) == 10 and slowest[0][1] >= slowest[-1][1] >= 0
        ((price,),) = self.run("prices", item=fair.item)
        assert price[1:4] == ("PriceChanged", fair.PRICE, "USD") and price[4].startswith("account:"), price

    def show(self, orders, pennies):
        """The figures of what was imported: so many orders for so much, and the same however the page asks for them."""
        self.souk.run("events", "export", "--output", self.folder / "events.parquet")
        answers = {}
        for name in dict.fromkeys(name for _, name, _ in self.blocks if name and name not in ["prices"]):
            answers[name] = self.run(name)
            for rows in answers[name]:
                print(f"\n{name}: {len(rows)} rows")
                for row in rows[:5]:
                    print("  ", *row)
                assert agree(rows, answers[name][0]), f"{name}: SQL and Python do not agree"
        for name in ["revenue", "conversion", "stock_outs", "together"]:
            assert len(answers[name]) == 2 and len(answers[name][0]) > 1, name
        for name in ["revenue", "by_month"]:
            for rows in answers[name]:
                assert tuple(map(sum, zip(*(row[-2:] for row in rows)))) == (orders, pennies), name
        assert sum(month[3] for month in answers["conversion"][0]) == orders


def agree(some, others):
    """The same rows in the same order, but for the last digit of what was rounded."""
    return len(some) == len(others) and all(
        abs(one - other) < 0.011 if isinstance(one, float) else one == other
        for row, counterpart in zip(some, others)
        for one, other in zip(row, counterpart, strict=True)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
