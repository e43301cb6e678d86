"""Peers for the client: a PKI, OpenSSL's mock server over HTTP, OSSL_CMP_SRV_CTX and scripts in this process."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from opensslcmp import AsyncSession, Context, Session, SharedSecret, Signer

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Entity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def certify(subject: str, key: Key, issuer: Entity | None = None, *, is_ca: bool = False) -> Entity:
    """A certificate for ``key``, by ``issuer`` or by itself."""
    signer = key if issuer is None else issuer.key
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(subject) if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"{subject}.example")]), critical=False)
    )
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Entity(builder.sign(signer, digest), key)


@pytest.fixture(scope="session")
def ca() -> Entity:
    return certify("ca", ec.generate_private_key(ec.SECP256R1()), is_ca=True)


@pytest.fixture(scope="session")
def server_entity(ca: Entity) -> Entity:
    return certify("server", ec.generate_private_key(ec.SECP256R1()), ca)


@pytest.fixture(scope="session")
def device(ca: Entity) -> Entity:
    """A device that has a certificate already."""
    return certify("device", ec.generate_private_key(ec.SECP256R1()), ca)


@pytest.fixture(scope="session")
def issued(ca: Entity) -> Entity:
    """What mock servers issue, whatever they are asked for."""
    return certify("device", ec.generate_private_key(ec.SECP256R1()), ca)


def _write(directory: Path, name: str, entity: Entity) -> None:
    (directory / f"{name}.pem").write_bytes(entity.certificate.public_bytes(Encoding.PEM))
    key = entity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / f"{name}.key").write_bytes(key)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, ca: Entity, server_entity: Entity, issued: Entity) -> Path:
    """The PKI as files, for the ``openssl`` command."""
    directory = tmp_path_factory.mktemp("mock")
    _write(directory, "ca", ca)
    _write(directory, "server", server_entity)
    _write(directory, "issued", issued)
    (directory / "secret").write_text("open sesame")
    (directory / "empty.cnf").write_text("")
    return directory


class _Blocking:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self._session, operation)
        return lambda *arguments, **options: anyio.run(lambda: method(*arguments, **options))


def blocking(*arguments: Any, **options: Any) -> Session:
    """An AsyncSession that runs an event loop for each call, so that a test need not know which twin it has."""
    return cast("Session", _Blocking(AsyncSession(*arguments, **options)))


TWINS = pytest.mark.parametrize("twin", [Session, blocking], ids=["sync", "async"])


SECRET = SharedSecret("device-17", "open sesame")


@dataclass
class Mock:
    """A running ``openssl cmp -port``."""

    url: str
    requests: list[bytes]

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        self.requests.append(request)
        headers = {"Content-Type": "application/pkixcmp"}
        call = urllib.request.Request(self.url, data=request, headers=headers)
        with urllib.request.urlopen(call, timeout=timeout_seconds) as answer:
            body: bytes = answer.read()
        return body


@pytest.fixture
def mock(files: Path) -> Iterator[Callable[..., Mock]]:
    """Starts mock servers: with a MAC, or with a signature when asked."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*options: str, signature: bool = False) -> Mock:
        credentials = ["-srv_trusted", "ca.pem"]
        if signature:
            credentials += ["-srv_cert", "server.pem", "-srv_key", "server.key"]
        else:
            credentials += ["-srv_ref", "server-1", "-srv_secret", "file:secret"]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = ["openssl", "cmp", "-config", "", "-batch", "-port", str(port)]
        command += ["-rsp_cert", "issued.pem", *credentials, *options]
        with (files / f"log-{port}").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=files,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OPENSSL_CONF": str(files / "empty.cnf")},
            )
        running.append(process)
        log_file = files / f"log-{port}"
        deadline = time.monotonic() + 20
        while b"ACCEPT" not in log_file.read_bytes():
            assert process.poll() is None, log_file.read_text()
            assert time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.01)
        return Mock(f"http://127.0.0.1:{port}/pkix/", [])

    yield start
    for process in running:
        process.terminate()
        process.wait(10)


@pytest.fixture
def mac_session() -> Callable[..., Session]:
    """A session with the shared secret."""

    def make(transport: object, **options: object) -> Session:
        options.setdefault("min_poll_seconds", 0.01)
        return Session(Context(credential=SECRET, **options), transport)  # type: ignore[arg-type]

    return make


@pytest.fixture
def signer_session(ca: Entity, device: Entity) -> Callable[..., Session]:
    """A session that signs with the device's certificate."""

    def make(transport: object, **options: object) -> Session:
        options.setdefault("trusted", ca.certificate)
        options.setdefault("min_poll_seconds", 0.01)
        return Session(
            Context(credential=Signer(device.certificate, device.key), **options),  # type: ignore[arg-type]
            transport,
        )

    return make
