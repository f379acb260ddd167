"""The notebooks of docs/notebooks: run on a server, they show what stands in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT, Serve, environment

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def shown(path: Path) -> list[tuple[str, list[str]]]:
    """Each cell of code, and what it shows as text."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return [
        ("".join(cell["source"]), [text(output) for output in cell["outputs"]]) for cell in document["cells"] if cell["cell_type"] == "code"
    ]


def text(output: dict[str, Any]) -> str:
    assert output["output_type"] in ("stream", "execute_result", "display_data"), output
    return "".join(output["text"] if "text" in output else output["data"]["text/plain"])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_stands_in_it(notebook: Path, serve: Serve, tmp_path: Path) -> None:
    url = serve().url
    output = tmp_path / "run.ipynb"
    done = subprocess.run(
        [sys.executable, "-P", str(ROOT / "scripts" / "notebook"), str(notebook), str(output)],
        env=environment({"HISTORIAN_URL": url, "IPYTHONDIR": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path)}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shown(output) == shown(notebook)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_tells_nothing_of_the_machine_that_it_ran_on(notebook: Path) -> None:
    content = notebook.read_text(encoding="utf-8")
    for trace in ("/tmp/", "/home/", "/root/", "C:\\", "site-packages"):
        assert trace not in content
    assert len(content) < 100_000
