"""What imports what: the arrows between the layers, and how little a bare import or a --help loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import command, environment

import historian
import historian.ingest
import historian.query
import historian.schema

#: slow to load, or large; who asks for help or for a version needs none of them
HEAVY = ("pandas", "pyarrow", "numpy", "aiohttp", "asyncpg", "psycopg")

#: what a layer may import of the others
ALLOWED = {
    "historian.schema": ("historian.schema",),
    "historian.ingest": ("historian.ingest", "historian.schema"),
    "historian.query": ("historian.query", "historian.schema"),
}


def modules(layer: str) -> Iterator[tuple[str, Path]]:
    """Name and file of each module of a layer."""
    (directory,) = map(Path, sys.modules[layer].__path__)
    for path in sorted(directory.rglob("*.py")):
        parts = path.relative_to(directory).with_suffix("").parts
        yield ".".join([layer, *(part for part in parts if part != "__init__")]), path


def imported(name: str, path: Path) -> Iterator[str]:
    """All that a module imports, anywhere in it."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(part for part in (base, node.module or "") if part)
            # `from historian import query` names a module too
            yield from (f"{origin}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("layer", ALLOWED)
def test_the_arrows_run_one_way(layer: str) -> None:
    found = list(modules(layer))
    assert len(found) > 3
    wrong = [
        f"{name} imports {target}"
        for name, path in found
        for target in imported(name, path)
        if target.split(".")[0] == "historian"
        and not any(target == allowed or target.startswith(f"{allowed}.") for allowed in ALLOWED[layer])
    ]
    assert wrong == []


def test_no_layer_is_imported_by_its_place_in_the_repository() -> None:
    for layer in [*ALLOWED, "historian"]:
        for name, path in modules(layer):
            assert not {target.split(".")[0] for target in imported(name, path)} & {"schema", "ingest", "query"}, name


def test_the_server_does_without_pandas() -> None:
    """pandas is for the client and for exports: its name does not even occur elsewhere."""
    using = {
        name
        for layer in [*ALLOWED, "historian"]
        for name, path in modules(layer)
        if any(t.split(".")[0] == "pandas" for t in imported(name, path))
    }
    assert not [name for name in using if not name.startswith(("historian.client", "historian.cli"))]


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after some code."""
    probe = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", probe], env=environment(), capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


@pytest.mark.parametrize(
    "code",
    ["import historian; historian.__version__", "import historian.cli", "from historian.schema.errors import HistorianError"],
    ids=["package", "cli", "errors"],
)
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert sorted(loaded(code) & set(HEAVY)) == []


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("db", "--help"), ("serve", "--help")], ids=" ".join)
def test_help_loads_nothing_heavy(args: tuple[str, ...]) -> None:
    python, *rest = command(*args)
    done = subprocess.run([python, "-X", "importtime", *rest], env=environment(), capture_output=True, text=True, check=True)
    names = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "historian.cli" in names
    assert sorted(names & set(HEAVY)) == []


def test_public_names_are_there() -> None:
    assert {name for name in historian.__all__ if getattr(historian, name) is None} == set()
    assert set(historian.__all__) <= set(dir(historian))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        historian.nothing  # noqa: B018


def test_importing_everything_is_clean_of_warnings() -> None:
    names = sorted({name for layer in [*ALLOWED, "historian"] for name, _ in modules(layer) if not name.endswith("__main__")})
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-P", "-W", "error", "-c", code, *names], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
