"""Settings of the server: from the command line, else from the environment (`HISTORIAN_PORT=…`), else these defaults."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from historian.ingest.decode.limits import DecodeLimits
from historian.schema.ledger_retention import CURSOR_KEPT_BYTES, CURSOR_KEPT_S
from historian.stream.nats_connection import NatsAddress

DEFAULT_PORT = 8742
_MB = 1 << 20

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """Each field is also an environment variable with `HISTORIAN_` before its name. Sizes are in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="HISTORIAN_", frozen=True, extra="forbid")

    #: any PostgreSQL or TimescaleDB server; none: the embedded database in `data_dir`
    dsn: SecretStr | None = None
    data_dir: Path | None = None

    #: a bus between several servers on one database (docs/scale.md): nats://host:4222, several with commas, tls:// for TLS; none: they hear of each other by the database
    nats: SecretStr | None = None
    #: what NATS wants to see: a token, or a file of credentials as `nsc` makes them; a user and a password stand in the address
    nats_token: SecretStr | None = None
    nats_credentials: Path | None = None

    #: expired raw samples go there, and are read from there (docs/archive.md): a directory, or a URI as s3://bucket/plant; none: where the database says
    archive_dir: str | None = None

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_PORT
    #: processes that answer on the port; what follows is of each of them
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    #: who knows it may read and write; needed off loopback
    token: SecretStr | None = None
    #: serve off loopback without a token: whoever reaches the port reads and writes
    allow_anonymous: bool = False
    #: who may write to tags, and take commands to the plant (docs/commands.md); none: nobody
    commanders: Path | None = None
    #: further names by which this server is addressed (Host header), as behind a reverse proxy
    allowed_hosts: tuple[str, ...] = ()
    #: origins (`https://hmi.example`) whose pages may use this server; its own page always may
    allowed_origins: tuple[str, ...] = ()

    #: make tags that a write names and the catalogue does not have
    create_tags: bool = True
    #: samples further from this machine's clock are refused; none: any time from 1970 to 2100
    max_past_s: Seconds | None = None
    max_future_s: Seconds | None = None
    max_body: Positive = 64 * _MB
    #: of all write bodies that are being worked on
    max_bodies: Positive = 512 * _MB
    #: samples of one body
    max_batch_samples: Positive = 2_000_000
    #: samples that wait to be committed; beyond it writers are answered 429
    max_pending_samples: Positive = 2_000_000
    #: transactions that write at the same time
    write_lanes: Annotated[int, Field(ge=1, le=32)] = 3
    #: samples that are committed together
    batch_samples: Positive = 100_000
    #: how long a write waits for a database that is away
    write_patience_s: Seconds = 10.0

    #: connections to /v1/ingest
    max_ingests: Positive = 64
    #: of each of them, batches that are sent and not yet answered: bytes as they come
    ingest_window: Positive = 8 * _MB
    #: and how many they may be
    ingest_batches: Positive = 256

    #: range queries at the same time; others wait
    read_connections: Annotated[int, Field(ge=1, le=64)] = 8
    #: of one client, range queries that wait for their turn; it is answered 429 for more
    read_queue: Positive = 64
    #: a range query may take so long at most, with what its client needs to take the answer
    query_s: Seconds = 300.0
    #: a range query may have so many rows at most; none: any number
    max_rows: Positive | None = None
    #: backfills at the same time; others wait
    backfill_connections: Annotated[int, Field(ge=1, le=64)] = 16
    #: a client that takes nothing of its answer for so long is cut off
    stalled_s: Seconds = 60.0

    max_streams: Positive = 1000
    #: of them, from one address; behind a reverse proxy all come from its address
    max_streams_address: Positive = 250
    #: of one stream connection, at the same time
    max_subscriptions: Positive = 64
    #: tags over all subscriptions of a stream connection
    max_stream_tags: Positive = 50_000
    #: control messages of a stream connection a second, in the long run
    max_controls_s: Positive = 100
    #: commands of one commander or address a second, in the long run
    max_commands_s: Annotated[float, Field(gt=0)] = 5.0
    #: so long the audit has a command
    commands_kept_s: Seconds = 10 * 366 * 86_400.0
    #: and one that was refused
    refused_commands_kept_s: Seconds = 90 * 86_400.0
    #: of each subscription, waiting for a client that does not read
    stream_queue: Positive = 8 * _MB
    #: of the live bus, for streams that resume
    retain: Positive = 32 * _MB
    heartbeat_s: Seconds = 10.0
    #: a WebSocket that does not answer a ping for half of this is closed
    ping_s: Seconds = 40.0
    sweep_s: Seconds = 0.5
    #: how long what was committed stays in the ledger for servers that have not published it yet
    content_kept_s: Seconds = 600.0
    #: how long it stays at the most for durable cursors that have not had it; then they have a gap
    cursor_kept_s: Seconds = CURSOR_KEPT_S
    #: and how much of it
    cursor_kept_bytes: Positive = CURSOR_KEPT_BYTES

    @field_validator("host")
    @classmethod
    def _host(cls, host: str) -> str:
        if not host.strip():
            raise ValueError("is empty; 0.0.0.0 listens on all interfaces")
        return host.strip()

    @field_validator("nats")
    @classmethod
    def _nats(cls, nats: SecretStr | None) -> SecretStr | None:
        if nats is None or not nats.get_secret_value().strip():
            # as a compose file has it whose variable is not set
            return None
        for url in nats.get_secret_value().split(","):
            parts = urlsplit(url.strip())
            if parts.scheme not in ("nats", "tls", "ws", "wss") or not parts.hostname:
                raise ValueError("is no address as nats://host:4222, or several of them with commas between")
        return nats

    @field_validator("nats_credentials")
    @classmethod
    def _nats_credentials(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"there is no file {path}")
        return path

    @property
    def nats_address(self) -> NatsAddress | None:
        """Where the bus is, if there is to be one."""
        if self.nats is None:
            return None
        urls = tuple(url.strip() for url in self.nats.get_secret_value().split(","))
        return NatsAddress(urls, self.nats_token.get_secret_value() if self.nats_token else None, self.nats_credentials)

    def decode_limits(self) -> DecodeLimits:
        """What is let in of a body."""
        return DecodeLimits(
            max_samples=self.max_batch_samples,
            create_tags=self.create_tags,
            max_past_s=self.max_past_s,
            max_future_s=self.max_future_s,
        )

    @property
    def connections(self) -> int:
        """How many a worker may have to the database."""
        # the lanes of both batchers; partitions, new tags and the doorbell; the upkeep's; the leases'; those of commands
        return 2 * self.write_lanes + 3 + self.read_connections + self.backfill_connections + 7 + 1 + 6

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
