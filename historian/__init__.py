"""historian: an industrial historian with live trending streams.

`historian.connect(url)` gives a client for notebooks and scripts, `historian.AsyncClient(url)` one for asyncio. Both are loaded at the first use: `import historian`
alone is light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from historian.client import AsyncClient, Client, connect
    from historian.schema.errors import HistorianError

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "HistorianError", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    if name in ("AsyncClient", "Client", "connect"):
        from historian import client

        return getattr(client, name)
    if name == "HistorianError":
        from historian.schema.errors import HistorianError

        return HistorianError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
