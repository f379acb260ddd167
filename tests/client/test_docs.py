"""The examples of docs/client.md, one after the other, as a reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, Serve, environment

PAGE = ROOT / "docs" / "client.md"


def test_the_examples_of_the_page_work(serve: Serve, tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    assert len(blocks) >= 10
    # each at its line of the page, so that a traceback points there
    script = ""
    for block in blocks:
        script += "\n" * (text[: block.start(1)].count("\n") - script.count("\n")) + block[1]
    (tmp_path / "client.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", str(tmp_path / "client.py")],
        env=environment({"HISTORIAN_URL": serve().url, "PYTHONIOENCODING": "utf-8"}),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "7200 samples are on disk",
        "[(0, 3)]",
        "86400 samples came over one connection",
        "acme/springfield/mill/drive digital None",
        "61 samples, history",
        "no such tag: 'acme/nowhere'",
        "the very same memory: True",
    ):
        assert said in done.stdout


@pytest.mark.parametrize(
    "name",
    ["range", "range_batches", "frame", "write", "snapshot", "tags", "define", "stream", "committed", "command", "commands", "command_of"],
)
def test_both_clients_have_what_the_page_tells_of(name: str) -> None:
    import inspect

    from historian.client import AsyncClient, Client

    ours, theirs = (inspect.signature(getattr(cls, name)).parameters for cls in (Client, AsyncClient))
    assert list(ours.values()) == list(theirs.values())
