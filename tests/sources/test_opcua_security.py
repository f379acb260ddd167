"""Certificates, keys and passwords of a connection to an OPC UA server."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

pytest.importorskip("asyncua")
from asyncua import ua
from opcua_servers import PlantServer, running, until
from recording_intake import RecordingIntake

from historian.ingest.sources.opcua import OpcuaConfig, OpcuaSource, SecurityConfig, browse
from historian.ingest.sources.opcua_security import KNOWN_SERVER, prepare
from historian.schema.errors import BadInput, Forbidden, NotFound, Unauthorized

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PlantServer]:
    directory = tmp_path_factory.mktemp("server")
    files = _made(directory, "urn:test:server")
    made = PlantServer(security=files, users=True)
    made.declare("temp", 20.0, ua.VariantType.Double)
    await made.start()
    yield made
    await made.stop()


def _made(directory: Path, uri: str) -> tuple[Path, Path]:
    certificate, key = directory / "certificate.der", directory / "key.pem"
    prepare(SecurityConfig(mode="Sign", certificate=certificate, key=key, create=True), uri)
    return certificate, key


def _config(server: PlantServer, tmp_path: Path, *, mode: str = "SignAndEncrypt", password: str = "right", **security: Any) -> OpcuaConfig:
    security = {
        "mode": mode,
        "certificate": tmp_path / "own" / "certificate.der",
        "key": tmp_path / "own" / "key.pem",
        "create": True,
    } | security
    return OpcuaConfig.model_validate(
        {
            "url": server.url,
            "browse": [{"root": "ns=2;s=Plant"}],
            "username": "historian",
            "password": password,
            "publishing_interval_ms": 20,
            "security": security,
        }
    )


@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_samples_come_over_a_secured_connection_with_a_certificate_of_its_own(server: PlantServer, tmp_path: Path, mode: str) -> None:
    config = _config(server, tmp_path, mode=mode)
    intake = RecordingIntake(tmp_path)
    async with running(config, intake) as source:
        await until(lambda: source.counts.samples == 1)
    assert intake.of("temp")[0][1] == 20.0
    assert config.security.key is not None
    assert stat.S_IMODE(config.security.key.stat().st_mode) == 0o600
    assert (tmp_path / KNOWN_SERVER).read_bytes() == server._security[0].read_bytes()  # type: ignore[index]
    # the second start uses what the first one made
    before = config.security.key.read_bytes()
    assert [row.path for row in await browse(config)] == ["temp"]
    assert config.security.key.read_bytes() == before


async def test_a_wrong_password_is_told_without_the_password(server: PlantServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = _config(server, tmp_path, password="wr0ng-secret")
    with pytest.raises(Unauthorized) as raised:
        await browse(config)
    assert "refuses user 'historian': wrong user name or password" in str(raised.value)
    async with running(config, RecordingIntake(tmp_path)) as source:
        await until(lambda: "wrong user name or password" in source.counts.trouble)
        assert not source.counts.connected
    assert "wrong user name or password" in caplog.text
    assert "wr0ng-secret" not in caplog.text + repr(config) + source.counts.trouble


async def test_anonymous_where_a_user_is_asked_for_is_told(server: PlantServer, tmp_path: Path) -> None:
    config = _config(server, tmp_path).model_copy(update={"username": None, "password": None})
    with pytest.raises(Unauthorized, match="anonymous clients: give a username"):
        await browse(config)


async def test_a_password_can_come_from_a_file_and_a_missing_one_ends_the_source(server: PlantServer, tmp_path: Path) -> None:
    file = tmp_path / "password"
    config = _config(server, tmp_path).model_copy(update={"password": None, "password_file": file})
    with pytest.raises(BadInput, match="No such file"):
        await OpcuaSource(config).run(RecordingIntake(tmp_path))
    file.write_text("right\n")
    assert len(await browse(config)) == 1


async def test_a_server_with_another_certificate_than_before_is_refused(server: PlantServer, tmp_path: Path) -> None:
    other, _ = _made(tmp_path / "other", "urn:test:other")
    with pytest.raises(Forbidden, match="is not the one that is trusted"):
        await browse(_config(server, tmp_path, server_certificate=other))
    pinned = _config(server, tmp_path, server_certificate=server._security[0])  # type: ignore[index]
    assert len(await browse(pinned)) == 1
    (tmp_path / KNOWN_SERVER).write_bytes(other.read_bytes())
    async with running(_config(server, tmp_path), RecordingIntake(tmp_path)) as source:
        await until(lambda: "if it has a new one for good reason, remove" in source.counts.trouble)
    async with running(_config(server, tmp_path, trust="any"), RecordingIntake(tmp_path)) as source:
        await until(lambda: source.counts.connected)


async def test_security_that_the_server_does_not_offer_is_told_with_what_it_offers(server: PlantServer, tmp_path: Path) -> None:
    with pytest.raises(
        NotFound, match="does not offer Aes256Sha256RsaPss Sign; it offers Basic256Sha256 Sign, Basic256Sha256 SignAndEncrypt"
    ):
        await browse(_config(server, tmp_path, mode="Sign", policy="Aes256Sha256RsaPss"))


async def test_files_that_are_not_there_or_not_whole_end_the_source_with_their_names(server: PlantServer, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"certificate\.der is not there; say create = true"):
        await OpcuaSource(_config(server, tmp_path, create=False)).run(RecordingIntake(tmp_path))
    config = _config(server, tmp_path)
    assert len(await browse(config)) == 1
    assert config.security.key is not None
    config.security.key.unlink()
    with pytest.raises(BadInput, match=r"certificate\.der is there, but its key"):
        await OpcuaSource(config).run(RecordingIntake(tmp_path))
