"""Builds the trend page into the package; all other settings stand in pyproject.toml."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent


def build_web() -> None:
    """Run scripts/build_web.py, except in an sdist that carries the built page and no sources of it."""
    script = ROOT / "scripts" / "build_web.py"
    spec = importlib.util.spec_from_file_location("build_web", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    module.build(ROOT)


class BuildWithPage(build_py):
    """`build_py` that has the page in place before it collects package data."""

    def run(self) -> None:
        build_web()
        # setuptools collects data files once, maybe before the page was there
        self.__dict__.pop("data_files", None)
        super().run()


class SdistWithPage(sdist):
    """`sdist` that carries the built page, so that installing from it needs no Node."""

    def run(self) -> None:
        build_web()
        super().run()


setup(cmdclass={"build_py": BuildWithPage, "sdist": SdistWithPage})
