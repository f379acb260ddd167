"""What a browser has to fetch before the trend page stands."""

from __future__ import annotations

import gzip

from opened import STATIC

MOST_BYTES = 250_000


def test_the_trend_page_is_a_small_download() -> None:
    files = [path for path in STATIC.rglob("*") if path.suffix in (".html", ".js", ".css", ".svg")]
    assert any(path.suffix == ".js" for path in files), "the trend page is not built; run: python scripts/build_web.py"
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) < MOST_BYTES
