"""Keys and certificates of a worker's OPC UA connection, and the question whether the server is the one that was meant."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from pathlib import Path

from asyncua import Client, ua
from asyncua.crypto import security_policies
from asyncua.crypto.cert_gen import dump_private_key_as_pem, generate_private_key, generate_self_signed_app_certificate
from asyncua.crypto.uacrypto import CertProperties
from asyncua.ua.uaerrors import UaError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import SecretStr

from historian.ingest.sources.opcua_config import SecurityConfig
from historian.schema.errors import BadInput, Forbidden, NotFound

#: a worker runs for years, and nobody sees to its certificate
_VALID_DAYS = 3650
#: in the source's state directory: what the server showed first
KNOWN_SERVER = "server-certificate.der"


def prepare(security: SecurityConfig, application_uri: str) -> None:
    """Make the key and the certificate if that is asked for and they are not there. Raises BadInput for files that are missing or cannot be written."""
    if security.mode == "None":
        return
    assert security.certificate is not None
    assert security.key is not None
    files = (security.certificate, security.key)
    if security.server_certificate is not None and not security.server_certificate.is_file():
        raise BadInput(f"the server's certificate {security.server_certificate} is not there")
    if all(file.is_file() for file in files):
        return
    if not security.create:
        missing = next(file for file in files if not file.is_file())
        raise BadInput(f"{missing} is not there; say create = true under [opcua.security] to have a key and a self-signed certificate made")
    if security.certificate.is_file():
        raise BadInput(f"the certificate {security.certificate} is there, but its key {security.key} is not")
    if security.key.is_file():
        raise BadInput(f"the key {security.key} is there, but its certificate {security.certificate} is not")
    host = socket.gethostname()
    key = generate_private_key()
    names = [x509.UniformResourceIdentifier(application_uri), x509.DNSName(host)]
    certificate = generate_self_signed_app_certificate(
        key, f"historian@{host}"[:64], {}, names, [ExtendedKeyUsageOID.CLIENT_AUTH], days=_VALID_DAYS
    )
    try:
        _write(security.key, dump_private_key_as_pem(key), 0o600)
        _write(security.certificate, certificate.public_bytes(_encoding(security.certificate)), 0o644)
    except OSError as error:
        raise BadInput(f"{error.filename}: {error.strerror}") from None


def application_uri_of(certificate: Path) -> str | None:
    """The application that a certificate was made for: servers compare it with what the client says. Raises BadInput for what is no certificate."""
    try:
        content = certificate.read_bytes()
        found = x509.load_pem_x509_certificate(content) if b"-----BEGIN" in content else x509.load_der_x509_certificate(content)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.UniformResourceIdentifier
        )
    except x509.ExtensionNotFound:
        return None
    except OSError as error:
        raise BadInput(f"{certificate}: {error.strerror}") from None
    except ValueError:
        raise BadInput(f"{certificate} is no certificate in PEM or DER") from None
    return names[0] if names else None


async def secure(client: Client, security: SecurityConfig, state_dir: Path | None) -> bytes | None:
    """Set a client up, before it connects. Returns the server's certificate (DER), None without security; `remember` it once the connection stands.

    Asks the server for its endpoints, so it raises what connecting raises, too; NotFound if it offers no such security, Forbidden if it is not the server it was.
    """
    if security.mode == "None":
        return None
    policy = getattr(security_policies, f"SecurityPolicy{security.policy}")
    mode = ua.MessageSecurityMode[security.mode]
    endpoints = await client.connect_and_get_server_endpoints()
    try:
        shown = Client.find_endpoint(endpoints, mode, policy.URI).ServerCertificate
    except UaError:
        offered = sorted(
            {f"{endpoint.SecurityPolicyUri.rpartition('#')[2]} {endpoint.SecurityMode.name.rstrip('_')}" for endpoint in endpoints}
        )
        raise NotFound(f"the server does not offer {security.policy} {security.mode}; it offers {', '.join(offered)}") from None
    # a chain may follow
    shown = bytes(shown)[: int.from_bytes(shown[2:4], "big") + 4]
    expected = await asyncio.to_thread(_expected, security, state_dir)
    if expected is not None and expected != shown:
        raise Forbidden(
            f"the server's certificate (SHA-256 {hashlib.sha256(shown).hexdigest()}) is not the one that is trusted"
            + (
                f"; if it has a new one for good reason, remove {state_dir / KNOWN_SERVER}"
                if security.trusts == "first" and state_dir
                else ""
            )
        )
    await client.set_security(
        policy,
        await asyncio.to_thread(_content, security.certificate),
        await asyncio.to_thread(_content, security.key, security.key_password),
        None,
        CertProperties(shown, "der"),
        mode,
    )
    return shown


def remember(security: SecurityConfig, state_dir: Path, shown: bytes) -> None:
    """Keep the certificate that the server showed first."""
    known = state_dir / KNOWN_SERVER
    if security.trusts == "first" and not known.exists():
        _write(known, shown, 0o644)


def _content(file: Path | None, password: SecretStr | None = None) -> CertProperties:
    assert file is not None
    content = file.read_bytes()
    form = "pem" if b"-----BEGIN" in content else "der"
    return CertProperties(content, form, password.get_secret_value() if password is not None else None)


def _expected(security: SecurityConfig, state_dir: Path | None) -> bytes | None:
    if security.trusts == "pinned":
        assert security.server_certificate is not None
        content = security.server_certificate.read_bytes()
        found = x509.load_pem_x509_certificate(content) if b"-----BEGIN" in content else x509.load_der_x509_certificate(content)
        return found.public_bytes(Encoding.DER)
    if security.trusts == "first" and state_dir is not None and (state_dir / KNOWN_SERVER).exists():
        return (state_dir / KNOWN_SERVER).read_bytes()
    return None


def _encoding(file: Path) -> Encoding:
    return Encoding.PEM if file.suffix == ".pem" else Encoding.DER


def _write(file: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by others for a moment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
