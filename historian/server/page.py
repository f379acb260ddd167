"""The trend page and the dashboards: static files that the build put beside this module."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from historian.schema.errors import NotFound

STATIC = Path(__file__).parent / "static"
#: their names carry a hash of their content
_FOR_EVER = "public, max-age=31536000, immutable"


async def index(_request: web.Request) -> web.StreamResponse:
    return _page("index.html")


async def dashboards(_request: web.Request) -> web.StreamResponse:
    return _page("dashboards.html")


def _page(name: str) -> web.StreamResponse:
    page = STATIC / name
    if not page.is_file():
        raise NotFound("this installation was built without the pages; in a checkout, run: python scripts/build_web.py")
    return web.FileResponse(page, headers={"Cache-Control": "no-cache"})


async def asset(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    path = STATIC / "assets" / name
    # one folder without sub-folders: a name with a separator is not one of its files
    if "/" in name or "\\" in name or name.startswith(".") or not path.is_file():
        raise NotFound(f"there is no asset {name[:100]!r}")
    return web.FileResponse(path, headers={"Cache-Control": _FOR_EVER})


async def icon(_request: web.Request) -> web.StreamResponse:
    path = STATIC / "favicon.svg"
    if not path.is_file():
        raise NotFound("no icon")
    return web.FileResponse(path, headers={"Cache-Control": "no-cache"})
