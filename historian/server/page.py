"""The trend page and the dashboards: static files that the build put beside this module."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from historian.schema.errors import NotFound

STATIC = Path(__file__).parent / "static"
#: their names carry a hash of their content
_FOR_EVER = "public, max-age=31536000, immutable"
_ICONS = ("favicon.svg", "icons/192.png", "icons/512.png", "icons/maskable.svg", "icons/maskable-512.png")
#: files by their addresses
_UNHASHED = {f"/{name}": name for name in ("sw.js", "manifest.webmanifest", *_ICONS)} | {"/favicon.ico": "favicon.svg"}
#: of suffixes that not every system has a type for
_TYPES = {".js": "text/javascript", ".webmanifest": "application/manifest+json", ".svg": "image/svg+xml"}
_ASSETS = "/assets/"


def is_public(path: str) -> bool:
    """Whether an address needs no token: the pages and their files, which ask for the token."""
    return path in ("/", "/dashboards") or path in _UNHASHED or path.startswith(_ASSETS)


def routes() -> list[web.RouteDef]:
    return [
        web.get("/", index),
        web.get("/dashboards", dashboards),
        web.get(_ASSETS + "{name}", asset),
        *(web.get(path, unhashed) for path in _UNHASHED),
    ]


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


async def unhashed(request: web.Request) -> web.StreamResponse:
    """What has a fixed address: the service worker, the manifest, the icons. Asked for anew each time (a 304 where nothing has changed): a browser that took an old
    service worker from its cache would not hear of a new version of the pages."""
    name = _UNHASHED[request.path]
    path = STATIC / name
    if not path.is_file():
        raise NotFound(f"this installation was built without {name}; in a checkout, run: python scripts/build_web.py")
    headers = {"Cache-Control": "no-cache"}
    if path.suffix in _TYPES:
        headers["Content-Type"] = _TYPES[path.suffix]
    return web.FileResponse(path, headers=headers)
