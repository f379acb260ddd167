"""The TimescaleDB that the tests run on, in WebAssembly, from npm: installed into tests/timescale/node_modules, unless it is there.

    python scripts/timescale.py

Node comes from where the build of the trend page has it from. Where nothing can be installed, that is said and no error: the tests then fail in CI, and elsewhere are
skipped with the reason (tests/timescale/timescale_process.py).
"""

from __future__ import annotations

import sys
from pathlib import Path

from build_web import BuildError, find_node, install

TIMESCALE = Path(__file__).resolve().parent.parent / "tests" / "timescale"


def main() -> None:
    try:
        install(find_node(), TIMESCALE)
    except BuildError as error:
        print(f"timescale: the tests on TimescaleDB cannot run: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
