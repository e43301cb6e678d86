"""Session against Responder: fifty clients at once, in this process and over HTTP, of every kind of key and protection."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import Trust
from opensslcmp.context.protection import ProtectionKind
from opensslcmp.credentials import SharedSecret, Signer
from opensslcmp.enums import RevocationReason
from opensslcmp.errors import ProtectionError, Rejected
from opensslcmp.server.ca import CA
from opensslcmp.server.memory import MemoryStore
from opensslcmp.server.responder import Responder
from opensslcmp.server.secret_book import FoundSecret
from opensslcmp.transport import InProcess, as_transport

ROOT = Path(__file__).resolve().parent.parent.parent
CLIENTS = 50
KINDS = list(itertools.product(["ec", "rsa", "ed25519"], ["mac", "signature"], ["implicit", "explicit"]))


@cache
def key(kind: str, number: int) -> Any:
    """Two keys of each kind for all, since making RSA keys is slow. Made before threads ask."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())


def secret(number: int) -> bytes:
    return b"secret of client %d" % number


def name(number: int) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"client-{number}")])


def find(reference: bytes) -> FoundSecret | None:
    kind, _, number = reference.partition(b"-")
    return FoundSecret(value=secret(int(number))) if kind == b"client" else None


@dataclass
class Site:
    """A server, and how to reach it."""

    way: Any
    trusted: x509.Certificate


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Site:
    site: Site = request.getfixturevalue(request.param)
    return site


@pytest.fixture
def in_process(tmp_path: Path) -> Site:
    ca = CA.create(tmp_path / "ca", subject="CN=Interop CA", key="ec:P-256")
    responder = Responder(ca, MemoryStore(), ca.signer, secrets=find, trust=Trust([ca.certificate]))
    return Site(InProcess(responder), x509.load_der_x509_certificate(ca.certificate))


@pytest.fixture
def over_http(tmp_path: Path) -> Iterator[Site]:
    directory = tmp_path / "ca"
    ca = CA.create(directory, subject="CN=Interop CA")
    for number in range(CLIENTS):
        ca.add_secret(f"client-{number}", secret(number))
    ca.close()
    trusted = x509.load_der_x509_certificate(ca.certificate)
    command = [sys.executable, "-m", "tests.interop.serving", str(directory)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        yield Site(url, trusted)
    finally:
        server.terminate()
        server.communicate(timeout=20)


class Together:
    """A transport that lets nobody send a second message before everybody has the answer to the first."""

    def __init__(self, transport: Any, barrier: threading.Barrier) -> None:
        self._transport = transport
        self._barrier: threading.Barrier | None = barrier

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        answer: bytes = self._transport.send(request, timeout_seconds)
        barrier, self._barrier = self._barrier, None
        if barrier is not None:
            barrier.wait(60)
        return answer


def session(site: Site, credential: SharedSecret | Signer, confirm: str, transport: Any = None) -> Session:
    trusted = [site.trusted] if isinstance(credential, Signer) else ()
    context = Context(credential=credential, trusted=trusted, implicit_confirm=confirm == "implicit")
    return Session(context, as_transport(site.way) if transport is None else transport)


def live(site: Site, number: int, barrier: threading.Barrier) -> x509.Certificate:
    """All that happens to one client; returns its last certificate, revoked."""
    kind, protection, confirm = KINDS[number % len(KINDS)]
    own = key(kind, 0)
    transport = Together(as_transport(site.way), barrier)
    credential: SharedSecret | Signer = SharedSecret(f"client-{number}", secret(number))
    first = session(site, credential, confirm, transport).enroll(name(number), own)
    assert first.protection.kind is ProtectionKind.MAC
    assert first.implicitly_confirmed is (confirm == "implicit")
    assert first.certificate.subject == name(number)
    assert first.certificate.public_key() == own.public_key()
    first.certificate.verify_directly_issued_by(site.trusted)
    if protection == "mac":
        again = session(site, credential, confirm).enroll(name(number), key(kind, 1), kind="cr")
        assert again.protection.kind is ProtectionKind.MAC
        return again.certificate
    signer = Signer(first.certificate, own)
    updated = session(site, signer, confirm).update(key=key(kind, 1))
    assert updated.protection.kind is ProtectionKind.SIGNATURE
    assert updated.certificate.subject == name(number)
    assert updated.certificate.public_key() == key(kind, 1).public_key()
    renewed = session(site, Signer(updated.certificate, key(kind, 1)), confirm)
    assert renewed.revoke(reason=RevocationReason.SUPERSEDED).protection.kind is ProtectionKind.SIGNATURE
    with pytest.raises((Rejected, ProtectionError)):
        renewed.update(key=key(kind, 0))
    return updated.certificate


@pytest.mark.parametrize("site", ["in_process", "over_http"], indirect=True)
def test_fifty_clients_at_once_each_get_their_own_certificates(site: Site) -> None:
    assert all(key(kind, number) for kind, _, _ in KINDS for number in range(2))
    barrier = threading.Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        certificates = list(pool.map(lambda number: live(site, number, barrier), range(CLIENTS)))
    assert [certificate.subject for certificate in certificates] == [name(number) for number in range(CLIENTS)]
    assert len({certificate.serial_number for certificate in certificates}) == CLIENTS


@pytest.mark.parametrize("site", ["in_process", "over_http"], indirect=True)
def test_a_client_with_another_s_secret_gets_nothing(site: Site) -> None:
    for credential in (SharedSecret("client-1", secret(2)), SharedSecret("client-99999", secret(1))):
        with pytest.raises((Rejected, ProtectionError)) as caught:
            session(site, credential, "explicit").enroll(name(1), key("ec", 0))
        assert "protection" in str(caught.value)
