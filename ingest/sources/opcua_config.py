"""What a worker is told about an OPC UA server: the `[opcua]` table of its configuration. docs/ingest/opcua.md describes every key."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

from asyncua import ua
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from historian.schema.catalogue import Kind
from historian.schema.errors import BadInput
from historian.schema.paths import check_path

_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?"
)


def _duration(value: object) -> object:
    """ISO 8601's P1DT12H, of weeks, days, hours, minutes and seconds."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None or not any(match.groups()):
        raise ValueError(f"{value!r} is no duration; say P1D for a day, PT6H for six hours")
    return timedelta(**{unit: int(number) for unit, number in match.groupdict().items() if number})


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeConfig(_Table):
    """One variable by its node id: `ns=2;s=Plant.Temp`, or with the namespace by name, `nsu=http://vendor/plant;s=Plant.Temp`.

    `kind` overrides what its data type says.
    """

    id: str
    tag: str
    kind: Kind | None = None

    @field_validator("id")
    @classmethod
    def _id(cls, text: str) -> str:
        return checked_node_id(text)

    @field_validator("tag")
    @classmethod
    def _tag(cls, path: str) -> str:
        try:
            return check_path(path)
        except BadInput as error:
            raise ValueError(str(error)) from None


class BrowseRule(_Table):
    """Every variable below a node, down to `depth` levels, whose browse path is included and not excluded.

    A browse path is the browse names below `root`, joined by `/`. A pattern stands for a whole path: `+` is any one level, `#` at the end any number of them, `*` and `?`
    any characters of a level. `tag` makes the tag's path, of `{path}`, `{name}` (its last level) and `{id}` (the identifier of the node id).
    """

    root: str = "i=85"
    depth: Annotated[int, Field(ge=1, le=64)] = 16
    include: tuple[str, ...] = ("#",)
    exclude: tuple[str, ...] = ()
    tag: str = "{path}"

    @field_validator("root")
    @classmethod
    def _root(cls, text: str) -> str:
        return checked_node_id(text)

    @field_validator("include", "exclude")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            pattern_regex(pattern)
        return patterns

    @field_validator("tag")
    @classmethod
    def _template(cls, template: str) -> str:
        try:
            fields = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        except ValueError as error:
            raise ValueError(f"tag template {template!r}: {error}") from None
        if fields - {"path", "name", "id"}:
            raise ValueError(
                f"tag template {template!r} has {{{sorted(fields - {'path', 'name', 'id'})[0]}}}; there are {{path}}, {{name}} and {{id}}"
            )
        if not fields:
            raise ValueError(f"tag template {template!r} gives every node the same tag: put {{path}} into it")
        return template


class SecurityConfig(_Table):
    """How the connection is secured.

    `trust` says which certificate the server may show: `pinned` the one in `server_certificate`, `first` whichever it shows first (kept, and asked for from then on),
    `any` all. `create` makes a key and a self-signed certificate where those files are not there.
    """

    mode: Literal["None", "Sign", "SignAndEncrypt"] = "SignAndEncrypt"
    policy: Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"] = "Basic256Sha256"
    certificate: Path | None = None
    key: Path | None = None
    key_password: SecretStr | None = None
    create: bool = False
    server_certificate: Path | None = None
    trust: Literal["pinned", "first", "any"] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.mode != "None" and (self.certificate is None or self.key is None):
            raise ValueError(
                f"mode {self.mode} takes a certificate and a key of this worker: name both files, and say create = true to have them made"
            )
        if (self.server_certificate is not None) != (self.trust == "pinned") and not (
            self.server_certificate is not None and self.trust is None
        ):
            raise ValueError('server_certificate and trust = "pinned" go together')
        return self

    @property
    def trusts(self) -> Literal["pinned", "first", "any"]:
        return self.trust or ("pinned" if self.server_certificate is not None else "first")


class OpcuaConfig(_Table):
    """One OPC UA server, and what is taken from it."""

    url: str
    security: SecurityConfig = SecurityConfig(mode="None")
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    application_uri: str = "urn:historian:ingest"

    nodes: tuple[NodeConfig, ...] = ()
    browse: tuple[BrowseRule, ...] = ()

    publishing_interval_ms: Annotated[float, Field(gt=0, le=3_600_000)] = 500.0
    #: 0: as fast as the server can
    sampling_interval_ms: Annotated[float, Field(ge=0, le=3_600_000)] = 500.0
    #: samples that the server keeps for each node while the worker takes none
    queue_size: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    #: changes smaller than this are not sent by the server; for numbers
    deadband: Annotated[float, Field(gt=0)] | None = None
    items_per_subscription: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    #: the server gives a sign of life this often when nothing changes; three that fail to come, and the worker connects anew
    keepalive_s: Annotated[float, Field(ge=0.1, le=600)] = 5.0
    timeout_s: Annotated[float, Field(ge=1, le=600)] = 10.0

    #: nodes that have come since are looked for this often; 0: at the next connection only
    browse_again_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0

    #: what is read of the past of a node that this worker has never seen; nothing if left out
    history: Annotated[timedelta, BeforeValidator(_duration)] | None = None
    #: the server's historian gets this long to store what the subscription has already told
    history_delay_s: Annotated[float, Field(ge=0, le=3600)] = 2.0
    history_concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    history_chunk: Annotated[int, Field(ge=2, le=1_000_000)] = 10_000

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            whole = parts.scheme == "opc.tcp" and bool(parts.hostname) and (parts.port or 0) >= 0
        except ValueError:
            whole = False
        if not whole:
            raise ValueError("an OPC UA server's url is opc.tcp://HOST:PORT/PATH")
        if parts.username is not None or parts.password is not None:
            raise ValueError("give the user as username and password_file, not in the url: it is shown in logs")
        return url

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.nodes and not self.browse:
            raise ValueError('it takes nothing: name nodes in [[opcua.nodes]] (id = "ns=2;s=…", tag = "…"), or rules in [[opcua.browse]]')
        if self.password is not None and self.password_file is not None:
            raise ValueError("give either password or password_file")
        if (self.password is not None or self.password_file is not None) and self.username is None:
            raise ValueError("a password without a username")
        tags = [node.tag for node in self.nodes]
        twice = sorted({tag for tag in tags if tags.count(tag) > 1}) if len(set(tags)) < len(tags) else []
        if twice:
            raise ValueError(f"two nodes have the tag {twice[0]!r}")
        return self

    def secret(self) -> str | None:
        """The password, or None. Raises BadInput if its file cannot be read."""
        if self.password is not None:
            return self.password.get_secret_value()
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"password_file {self.password_file}: {getattr(error, 'strerror', None) or 'is no text'}") from None


_NODE_ID = re.compile(r"(?:ns=(?P<index>\d{1,5});|nsu=(?P<name>[^;]+);)?(?P<form>[isgb])=(?P<identifier>.+)", re.DOTALL)


def checked_node_id(text: str) -> str:
    """The node id itself. Raises ValueError if it is none."""
    match = _NODE_ID.fullmatch(text)
    namespaces = [match["name"]] if match is not None and match["name"] is not None else []
    try:
        node_id(text, namespaces)
    except ValueError:
        raise ValueError(
            f"{text!r} is no node id; one looks like ns=2;s=Plant.Temp, ns=2;i=1001 or nsu=http://vendor/plant;s=Plant.Temp"
        ) from None
    return text


def node_id(text: str, namespaces: Sequence[str]) -> ua.NodeId | None:
    """A node id by its text, on a server with these namespaces; None if it names one that the server does not have. Raises ValueError for what is no node id."""
    match = _NODE_ID.fullmatch(text)
    if match is None or int(match["index"] or 0) > 65535:
        raise ValueError(f"{text!r} is no node id")
    index = int(match["index"] or 0)
    if match["name"] is not None:
        if match["name"] not in namespaces:
            return None
        index = list(namespaces).index(match["name"])
    identifier: Any = match["identifier"]
    if match["form"] == "i":
        if not (identifier.isascii() and identifier.isdigit() and int(identifier) < 2**32):
            raise ValueError(f"{text!r} is no node id: i= takes a number below 2^32")
        return ua.NodeId(int(identifier), index)
    if match["form"] == "g":
        return ua.NodeId(UUID(identifier), index)
    if match["form"] == "b":
        return ua.NodeId(base64.b64decode(identifier, validate=True), index)
    return ua.NodeId(identifier, index)


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """A pattern of a browse rule, compiled for `fullmatch` on browse paths. Raises ValueError."""
    if not pattern:
        raise ValueError("a pattern is not empty")
    levels = pattern.split("/")
    parts: list[str] = []
    for n, level in enumerate(levels):
        if level == "#":
            if n != len(levels) - 1:
                raise ValueError(f"pattern {pattern!r}: # stands only at the end")
            return re.compile("/".join(parts) + ("(?:/.*)?" if parts else ".*"), re.DOTALL)
        if level == "+":
            parts.append("[^/]+")
        else:
            parts.append("".join({"*": "[^/]*", "?": "[^/]"}.get(letter, re.escape(letter)) for letter in level))
    return re.compile("/".join(parts), re.DOTALL)
