"""`historian import`: files into a running server; running it again adds what is missing, and nothing else.

All files are looked through first, so nothing is sent while one of them is at fault. A file's content, with the options that change what becomes of it, is its
identity as a producer, and its chunks are numbered: the server knows those that it has.
"""

from __future__ import annotations

import glob
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from historian.cli.options import Token, Url
from historian.schema.errors import BadInput

EPILOG = """[bold]Examples[/bold]

historian import pump.csv --prefix acme/springfield/cooling

historian import 'logs/*.csv.gz' --prefix 'acme/{parent}/{stem}' --tz Europe/Berlin

historian import export.txt --delimiter ';' --decimal , --time-format '%d.%m.%Y %H:%M:%S' --dry-run

A wide file has a column a tag beside the time; a long one has columns tag, time, value, and quality if need be. Running the same command again adds only what is missing.
"""


class ImportLayout(StrEnum):
    auto = "auto"
    wide = "wide"
    long = "long"


def import_files(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="CSV (also .gz, .zst), Parquet and Arrow files.", show_default=False)],
    prefix: Annotated[
        str, typer.Option(metavar="PATH", help="Stands before each tag; {stem}, {name} and {parent} are those of the file.")
    ] = "",
    tz: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Zone of times without an offset, as Europe/Berlin or +01:00.", show_default="UTC")
    ] = None,
    layout: Annotated[ImportLayout, typer.Option(help="wide: a column a tag; long: a row a sample.")] = ImportLayout.auto,
    delimiter: Annotated[
        str | None, typer.Option(metavar="CHAR", help="Between the cells of CSV; 'tab' is one.", show_default="recognised")
    ] = None,
    decimal: Annotated[str | None, typer.Option(metavar="CHAR", help="The decimal mark, . or ,", show_default="recognised")] = None,
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="Of the text, as cp1252.", show_default="UTF-8")] = None,
    time_column: Annotated[str | None, typer.Option(metavar="NAME", help="The column with the times.", show_default="recognised")] = None,
    time_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="As for strptime, or iso, s, ms, us, ns since 1970.", show_default="recognised")
    ] = None,
    null: Annotated[list[str] | None, typer.Option(metavar="WORD", help="Stands for no value, as do empty cells, nan and null.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A column or tag that is text, even where it looks like numbers.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look through the files, and say how they are understood.")] = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Import files. Nothing is sent before all of them have been looked through and found good."""
    if delimiter is not None:
        delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii():
            raise typer.BadParameter("is one character, or tab", param_hint="--delimiter")
    if decimal not in (None, ".", ","):
        raise typer.BadParameter("is . or ,", param_hint="--decimal")
    from historian.cli.import_preview import preview
    from historian.cli.import_report import Reporter
    from historian.cli.importer import Importer
    from historian.ingest.files import FileOptions

    options = FileOptions(
        prefix=prefix,
        tz=tz,
        layout=layout.value,
        delimiter=delimiter,
        decimal=decimal,
        encoding=encoding,
        time_column=time_column,
        time_format=time_format,
        nulls=tuple(null or ()),
        texts=tuple(text or ()),
    )
    paths = _paths(files)
    with Reporter() as reporter:
        importer = Importer(url, token, reporter)
        try:
            if not dry_run:
                # before a look through gigabytes of files
                importer.check_server()
            plans = importer.look_through(paths, options)
            if dry_run:
                for plan in plans:
                    typer.echo(preview(plan))
                return
            importer.send(plans)
        except KeyboardInterrupt:
            reporter.interrupted()
            sys.exit(130)
    typer.echo(reporter.summary())


def _paths(files: list[str]) -> list[Path]:
    """Each once, in the order given; patterns that the shell has left are filled in. Raises BadInput."""
    found: dict[Path, None] = {}
    for name in files:
        path = Path(name)
        if path.is_dir():
            raise BadInput(f"{name} is a directory; name its files, as {name.rstrip('/')}/*.csv")
        if path.exists() or not glob.has_magic(name):
            if not path.exists():
                raise BadInput(f"{name}: there is no such file")
            found[path] = None
            continue
        matching = [match for match in sorted(map(Path, glob.glob(name, recursive=True))) if match.is_file()]  # noqa: PTH207 - with directories in the pattern
        if not matching:
            raise BadInput(f"no file matches {name}")
        found.update(dict.fromkeys(matching))
    return list(found)
