"""Where the server is, and the token for it: what is given, else the environment, else this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from historian.schema.errors import BadInput

LOCAL_URL = "http://127.0.0.1:8742"


def default_url() -> str:
    """`HISTORIAN_URL`, else the local server."""
    return os.environ.get("HISTORIAN_URL") or LOCAL_URL


@dataclass(frozen=True, slots=True)
class Address:
    """`url` has a scheme and no slash at its end."""

    url: str
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str | None, token: str | None) -> Address:
        """From what a caller gave. `host:port` alone means http. Raises BadInput for what is no address of a server."""
        given = (url or default_url()).strip()
        full = given if "://" in given else f"http://{given}"
        try:
            parts = urlsplit(full)
            valid = (
                parts.scheme in ("http", "https")
                and bool(parts.hostname)
                and not re.search(r"\s", full)
                and (parts.port is None or parts.port > 0)
            )
        except ValueError:
            valid = False
        if not valid or parts.query or parts.fragment:
            raise BadInput(f"{given!r} is no address of a server; it looks like {LOCAL_URL}")
        return cls(full.rstrip("/"), token or os.environ.get("HISTORIAN_TOKEN") or None)

    @property
    def nearby(self) -> bool:
        """Whether it is on this machine, where compression costs more than it saves."""
        return urlsplit(self.url).hostname in ("127.0.0.1", "::1", "localhost")
