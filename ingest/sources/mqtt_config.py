"""How a broker is reached: the keys that the MQTT and the Sparkplug source have in common. docs/ingest/mqtt.md describes them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from historian.schema.errors import BadInput


class _Socket(ssl.SSLSocket):
    """One that is closed when the other side cannot be trusted: paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


class TlsConfig(BaseModel):
    """TLS to the broker: `ca` if the system's authorities do not know it, `cert` and `key` if it asks for ours."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    key_password: SecretStr | None = None
    #: false: take a certificate for another host name; for brokers known by address
    check_hostname: bool = True

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        return self

    def context(self) -> ssl.SSLContext:
        """Raises BadInput, naming the file."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(f"tls.ca {self.ca}: {words(error)}") from None
        context.sslsocket_class = _Socket
        context.check_hostname = self.check_hostname
        if self.cert is not None:
            password = self.key_password.get_secret_value() if self.key_password is not None else ""
            try:
                context.load_cert_chain(self.cert, self.key, lambda: password)
            except (OSError, ssl.SSLError) as error:
                raise BadInput(f"tls.cert {self.cert} with tls.key {self.key}: {words(error)}") from None
        return context


class MqttConnectionConfig(BaseModel):
    """How to reach a broker; the sources add what they want of it. `client_id` names the session that the broker keeps: two workers never share one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("localhost", min_length=1)
    #: by default 1883, 8883 with TLS
    port: int | None = Field(None, ge=1, le=65535)
    protocol: Literal["3.1.1", "5"] = "5"
    client_id: Annotated[str, Field(min_length=1, max_length=1024)]
    username: str | None = None
    password: SecretStr | None = None
    #: read at each connect: it may be changed while the worker runs
    password_file: Path | None = None
    tls: TlsConfig | None = None
    keepalive_s: int = Field(30, ge=5, le=65535)
    #: MQTT 5: how long the broker keeps the session of a worker that is away; in 3.1.1 its own setting decides
    session_expiry_s: int = Field(7 * 86400, ge=0, le=2**32 - 1)
    #: MQTT 5: unacknowledged messages at once; in 3.1.1 the broker's own setting decides
    receive_maximum: int = Field(10_000, ge=1, le=65535)
    connect_timeout_s: float = Field(10.0, ge=0.5, le=300)
    reconnect_longest_s: float = Field(30.0, ge=0.1, le=3600)

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("give either password or password_file")
        if (self.password is not None or self.password_file is not None) and self.username is None:
            raise ValueError("a password without a username")
        return self

    @property
    def broker(self) -> str:
        """For people: host and port."""
        return f"{self.host}:{self.port or (1883 if self.tls is None else 8883)}"

    def secret(self) -> str | None:
        """The password. Raises BadInput if its file cannot be read."""
        if self.password is not None:
            return self.password.get_secret_value()
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"password_file {self.password_file}: {words(error)}") from None


def words(error: BaseException) -> str:
    """What the system says of an error, without its number."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
