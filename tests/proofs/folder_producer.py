"""Drops files into a folder: `python -m proofs.folder_producer FOLDER PREFIX SAMPLES SECONDS`. CSV, Parquet and Arrow in turn, spread over so
many seconds.

It can be killed at any time and started again: what is in the folder, or done, has been dropped. A file appears whole.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from proofs.mqtt_producer import evenly
from proofs.production import Production

ROWS = 10_000


def files(production: Production) -> int:
    return -(-production.samples // ROWS)


def name(number: int) -> str:
    return f"part-{number:05d}.{('csv', 'parquet', 'arrow')[number % 3]}"


def write(production: Production, number: int, path: Path) -> None:
    tag, ts, value = production.numbers(number * ROWS, (number + 1) * ROWS)
    paths = pa.DictionaryArray.from_arrays(pa.array(tag.astype("int32")), pa.array(production.paths))
    table = pa.table({"tag": paths, "ts": pa.array(ts, pa.timestamp("us", "UTC")), "value": pa.array(value)})
    if path.suffix == ".csv":
        table = table.set_column(0, "tag", paths.cast(pa.string()))
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, str(path), compression="zstd")


def drop(folder: Path, production: Production, seconds: float) -> None:
    for number in evenly(files(production), seconds):
        path = folder / name(number)
        if path.exists() or (folder / "done" / path.name).exists():
            continue
        hidden = folder / f".{path.name}"
        write(production, number, hidden.with_suffix(path.suffix))
        hidden.rename(path)
    print("all are dropped", flush=True)


if __name__ == "__main__":
    drop(Path(sys.argv[1]), Production(sys.argv[2], int(sys.argv[3])), float(sys.argv[4]))
