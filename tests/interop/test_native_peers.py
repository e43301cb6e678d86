"""OpenSSL's own CMP client against Responder, and Session against OpenSSL's own CMP server."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import Trust
from opensslcmp.context.client import ClientContext
from opensslcmp.context.protection import ProtectionKind
from opensslcmp.credentials import SharedSecret, Signer
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import Rejected
from opensslcmp.server.ca import CA
from opensslcmp.server.memory import MemoryStore
from opensslcmp.server.responder import Responder
from opensslcmp.server.secret_book import FoundSecret
from tests import native_peers as peers

MAC = pytest.mark.parametrize("mac", [True, False], ids=["mac", "signature"])
IMPLICIT = pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "explicit"])


@pytest.fixture
def ca(tmp_path: Path) -> CA:
    return CA.create(tmp_path / "ca", subject="CN=Interop CA", key="ec:P-256")


@pytest.fixture
def responder(ca: CA) -> Responder:
    def find(reference: bytes) -> FoundSecret | None:
        return FoundSecret(value=peers.SECRET) if reference == peers.REFERENCE else None

    return Responder(ca, MemoryStore(), ca.signer, secrets=find, trust=Trust([ca.certificate]))


def native_client(responder: Responder, ca: CA, mac: bool, key: ec.EllipticCurvePrivateKey) -> ClientContext:
    client = ClientContext(responder.handle)
    if mac:
        client.reference, client.secret = peers.REFERENCE, peers.SECRET
    else:
        own = peers.new_key()
        first = native_client(responder, ca, True, own).request_certificate(BodyType.IR)
        client.certificate = first
        client.set_key(peers.key_der(own))
        client.trust([ca.certificate])
    client.subject = peers.name("device-1").public_bytes()
    client.set_new_key(peers.key_der(key))
    return client


@MAC
@IMPLICIT
@pytest.mark.parametrize("kind", [BodyType.IR, BodyType.CR])
def test_openssl_enrolls_from_the_responder(
    responder: Responder, ca: CA, mac: bool, implicit: bool, kind: BodyType
) -> None:
    key = peers.new_key()
    client = native_client(responder, ca, mac, key)
    client.implicit_confirm = implicit
    certificate = x509.load_der_x509_certificate(client.request_certificate(kind))
    assert certificate.subject == peers.name("device-1")
    assert certificate.public_key() == key.public_key()


def test_openssl_updates_and_revokes_at_the_responder(responder: Responder, ca: CA) -> None:
    key = peers.new_key()
    client = native_client(responder, ca, False, key)
    client.old_certificate = client.certificate
    updated = x509.load_der_x509_certificate(client.request_certificate(BodyType.KUR))
    assert updated.public_key() == key.public_key()
    renewed = native_client(responder, ca, True, key)
    renewed.reference = renewed.secret = None
    renewed.certificate = peers.der(updated)
    renewed.set_key(peers.key_der(key))
    renewed.trust([ca.certificate])
    renewed.old_certificate = peers.der(updated)
    renewed.revoke()
    with pytest.raises(Rejected):
        renewed.revoke()


def test_openssl_learns_why_the_responder_refuses(responder: Responder, ca: CA) -> None:
    client = native_client(responder, ca, True, peers.new_key())
    client.subject = x509.Name([]).public_bytes()
    with pytest.raises(Rejected) as caught:
        client.request_certificate(BodyType.IR)
    assert caught.value.failure is FailureInfo.BAD_CERT_TEMPLATE


@MAC
@IMPLICIT
def test_session_enrolls_from_openssl_s_server(mac: bool, implicit: bool) -> None:
    ca = peers.CA()
    server = peers.make_server(ca, mac=mac)
    server.grant_implicit_confirm = True
    credential: SharedSecret | Signer = SharedSecret(peers.REFERENCE, peers.SECRET)
    if not mac:
        credential = Signer(peers.device_party().certificate, peers.device_party().key)
    context = Context(
        credential=credential,
        trusted=() if mac else [peers.root().certificate],
        implicit_confirm=implicit,
        recipient=peers.name("Test Server"),
    )
    issued = Session(context, server.process).enroll(peers.name(ca.subject), ca.key)
    assert issued.certificate.public_key() == ca.key.public_key()
    assert issued.protection.kind is (ProtectionKind.MAC if mac else ProtectionKind.SIGNATURE)
    assert issued.implicitly_confirmed is implicit
    assert ("confirmation" in [asked[0] for asked in ca.asked]) is not implicit


@MAC
def test_session_polls_openssl_s_server(mac: bool) -> None:
    ca = peers.CA(waits=2)
    server = peers.make_server(ca, mac=mac)
    credential: SharedSecret | Signer = SharedSecret(peers.REFERENCE, peers.SECRET)
    if not mac:
        credential = Signer(peers.device_party().certificate, peers.device_party().key)
    context = Context(credential=credential, trusted=() if mac else [peers.root().certificate])
    slept: list[float] = []
    issued = Session(context, server.process, sleep=slept.append).enroll(peers.name(ca.subject), ca.key)
    assert issued.certificate.public_key() == ca.key.public_key()
    assert slept == [1.0]
