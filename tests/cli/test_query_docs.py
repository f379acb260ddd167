"""The examples of docs/query.md, on the demo: curl's, the command's, and Python's."""

from __future__ import annotations

import re
import shlex
import time
import urllib.request
from pathlib import Path

import pytest
from processes import ROOT, ServerProcess
from typer.testing import CliRunner

from historian.cli import app
from historian.client import Client

BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "docs" / "query.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def examples(begin: str) -> list[str]:
    return [text.strip() for _, text in BLOCKS if text.startswith(begin)]


def test_there_is_an_example_of_each_family() -> None:
    assert len(examples("curl ")) == len(examples("historian query ")) == len([kind for kind, _ in BLOCKS if kind == "python"]) == 5


@pytest.fixture
def demo(demo_server: ServerProcess) -> str:
    """Address of the demo, once it has its tags."""
    deadline = time.monotonic() + 60
    with Client(demo_server.url) as client:
        while not client.snapshot("acme/+/brewing/line1/feed_pump/state").num_rows:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    return demo_server.url


def test_the_examples_of_curl(demo: str) -> None:
    for example in examples("curl "):
        url = shlex.split(example)[1].replace("http://127.0.0.1:8742", demo)
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.read(), example


def test_the_examples_of_the_command(demo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for example in examples("historian query "):
        done = CliRunner().invoke(app, shlex.split(example)[1:], env={"HISTORIAN_URL": demo, "COLUMNS": "100"})
        assert done.exit_code == 0, (example, done.output, done.exception)
        assert done.stdout or list(tmp_path.iterdir()), example


def test_the_examples_of_python(demo: str) -> None:
    with Client(demo) as client:
        for kind, text in BLOCKS:
            if kind == "python":
                exec(text, {"client": client})
