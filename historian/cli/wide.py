"""Wide frames, as `historian query --wide` shows and writes them: a column for each tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from historian.cli.rows import common_levels

if TYPE_CHECKING:
    import pandas as pd


def _labels(frame: pd.DataFrame) -> list[str]:
    """A name for each column: the path, and the state where a column is of one."""
    return [name if isinstance(name, str) else " ".join(name) for name in frame.columns]


def show(frame: pd.DataFrame, rows: int) -> bool:
    """Print so many rows at most; whether that is all of them. What the paths have in common is left out of the heads."""
    labels = _labels(frame)
    units = frame.attrs["units"]
    paths = [name if isinstance(name, str) else name[0] for name in frame.columns]
    common = common_levels(paths)
    by_state = frame.columns.nlevels > 1
    table = Table(f"time ({frame.attrs['tz']})", box=None, header_style="bold", pad_edge=False)
    for label, path in zip(labels, paths, strict=True):
        unit = None if by_state else units.get(path)
        table.add_column(f"{label[len(common) :]}\n{unit or ''}".rstrip(), justify="right", overflow="fold")
    shown = frame.iloc[:rows]
    columns = [[_cell(value) for value in shown.iloc[:, n].tolist()] for n in range(shown.shape[1])]
    for ts, *cells in zip(shown.index, *columns, strict=True):
        table.add_row(ts.isoformat(sep=" ")[:26].partition("+")[0], *cells)
    console = Console()
    if common:
        console.print(common, highlight=False)
    console.print(table)
    return len(shown) == len(frame)


def _cell(value: Any) -> str:
    # missing values of all kinds differ from themselves, or are pandas' NA, whose comparison is neither true nor false
    if value is None or not isinstance(value, int | float | str | bool) or value != value:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write(frame: pd.DataFrame, form: str, sink: BinaryIO) -> None:
    """As `csv` or `parquet`. Times of the CSV are in the frame's zone, with its offset: `2026-01-01T00:00:00+0100`, as `historian import` reads them."""
    frame = frame.set_axis(_labels(frame), axis=1)
    if form == "parquet":
        pq.write_table(pa.Table.from_pandas(frame), sink, compression="zstd")
        return
    table = pa.Table.from_pandas(frame.reset_index(), preserve_index=False)
    places = [n for n, of_column in enumerate(table.schema) if pa.types.is_dictionary(of_column.type)]
    for n in places:
        # pyarrow writes no dictionaries as CSV
        table = table.set_column(n, table.schema.field(n).name, table.column(n).cast(pa.string()))
    pattern = "%Y-%m-%dT%H:%M:%S%z"
    table = table.set_column(0, "ts", pc.strftime(table.column(0), format=pattern))
    pyarrow.csv.write_csv(table, sink)
