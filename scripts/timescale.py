"""The TimescaleDB that the tests run on, in WebAssembly, from npm: installed into tests/timescale/node_modules, unless it is there.

    python scripts/timescale.py

Node comes from where the build of the trend page has it from.
"""

from __future__ import annotations

import sys
from pathlib import Path

from build_web import BuildError, find_node, install

TIMESCALE = Path(__file__).resolve().parent.parent / "tests" / "timescale"


def main() -> int:
    try:
        install(find_node(), TIMESCALE)
    except BuildError as error:
        print(f"timescale: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
