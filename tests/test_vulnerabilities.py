"""The published holes of libcrypto's CMP and the traps beside them: the message itself, sent to both roles.

Each runs on every version of the library, whether it has the hole or not: the message does not come so far.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.asn1 import Variant

from opensslcmp import Context, Session, SharedSecret, Signer
from opensslcmp._native import lib
from opensslcmp._native.queue import drain
from opensslcmp.asn1 import (
    CertId,
    CertifiedKeyPair,
    CertRepMessage,
    CertResponse,
    ErrorMsgContent,
    Message,
    PKIStatusInfo,
    RevRepContent,
    SubjectPublicKeyInfo,
    admit,
    algorithm,
    assemble,
    decode,
    directory_name,
    encode,
    encode_body,
    make_header,
    oids,
    protected_part,
    tlv,
)
from opensslcmp.client.failover import Retry
from opensslcmp.context.certificates import Trust
from opensslcmp.context.protection import MacProtector, protect, protector_for, verify
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage, CMPError, ProtectionError
from opensslcmp.linked import KNOWN
from opensslcmp.server import CA
from opensslcmp.server.authority import CertificateRequest, Issued
from tests import native_peers as peers
from tests.context.issuing import INTER, INTER_KEY, NOW, ROOT, certificate, der, key, message
from tests.server.device import KEYS, Device, certificate_of, crmf, name, said, status_of
from tests.server.world import World, fresh_world

B, F = BodyType, FailureInfo
SECRET = SharedSecret("device", "secret")
PARAMETERS = {
    "boolean": b"\x01\x01\xff",
    "null": b"\x05\x00",
    "octets": b"\x04\x00",
    "empty": b"\x30\x00",
    "none": None,
}
"""Of a PasswordBasedMac, none a PBMParameter."""

ELSEWHERE = {
    "CVE-2026-63072": "tests/context/test_cms.py",
    "CVE-2026-42768": "tests/context/test_cms.py",
    "CVE-2026-34182": "tests/context/test_cms.py",
    "CVE-2026-42769": "tests/client/test_questions.py",
}


class Answering:
    """Answers each request with what ``answer`` makes of it."""

    def __init__(self, answer: Callable[[Message], bytes]) -> None:
        self._answer = answer

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        return self._answer(admit(request))

    def close(self) -> None:
        """Nothing to close."""


def answer_to(request: Message, kind: BodyType, content: Any, secret: SharedSecret = SECRET) -> bytes:
    """An answer of who has the secret."""
    protector = MacProtector(secret)
    header = make_header(
        sender=protector.sender_name,
        recipient=b"0\0",
        transaction_id=request.transaction_id,
        sender_nonce=os.urandom(16),
        recip_nonce=request.sender_nonce,
    )
    return protect(header, kind, encode_body(kind, content), protector)


def session(answer: Callable[[Message], bytes], **options: Any) -> Session:
    """A client of this server."""
    return Session(Context(credential=SECRET, retry=Retry(attempts=1), **options), Answering(answer))


def native_client(answer: Callable[[Message], bytes]) -> Any:
    """OpenSSL's own client of this server."""
    return peers.make_client(lambda request: answer(admit(request)), peers.CA())


def test_every_hole_that_is_known_has_its_test() -> None:
    here = {each for each in globals() if each.startswith("test_cve_")}
    for hole in KNOWN:
        if hole.id.startswith("CVE") and hole.id not in ELSEWHERE:
            number = hole.id[4:].replace("-", "_")
            assert any(each.startswith(f"test_cve_{number}_") for each in here), hole.id


# -- CVE-2026-63076: PBM parameters that are no SEQUENCE -----------------------------------------------------------------


def crashing(parameters: bytes | None, kind: BodyType, body: bytes, request: Message | None = None) -> bytes:
    """A message that takes an unpatched receiver down."""
    header = make_header(
        sender=name("CN=x"),
        recipient=b"0\0",
        transaction_id=os.urandom(16) if request is None else request.transaction_id,
        sender_nonce=os.urandom(16),
        recip_nonce=None if request is None else request.sender_nonce,
        sender_kid=b"device",
        protection_alg=algorithm(oids.PASSWORD_BASED_MAC, parameters),
    )
    return assemble(protected_part(header, kind, body), os.urandom(20))


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
def test_cve_2026_63076_at_servers(parameters: bytes | None) -> None:
    request = crashing(parameters, B.IR, encode_body(B.IR, [crmf(KEYS[0])]))
    assert said(admit(fresh_world().responder.handle(request))) == (B.ERROR, F.BAD_DATA_FORMAT)
    with pytest.raises(BadMessage):
        peers.make_server(peers.CA()).process(request)


@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("kind", [B.IP, B.ERROR])
def test_cve_2026_63076_at_clients(parameters: bytes | None, kind: BodyType) -> None:
    content: Any = ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.REJECTION))
    if kind is B.IP:
        content = CertRepMessage(response=[CertResponse(cert_req_id=0, status=PKIStatusInfo.make(PKIStatus.REJECTION))])

    def answer(request: Message) -> bytes:
        return crashing(parameters, kind, encode_body(kind, content), request)

    with pytest.raises(BadMessage):
        session(answer, unprotected_errors=True).enroll("CN=a", key=KEYS[0])
    with pytest.raises(BadMessage):
        native_client(answer).request_certificate(B.IR)


# -- CVE-2026-63073: a sender as a format string -------------------------------------------------------------------------

PERCENT = "CN=%s%n%s%n%999999d"


def test_cve_2026_63073_a_sender_of_percents() -> None:
    world = fresh_world()
    request = world.device(secret="wrong").build(B.GENM, [], sender=name(PERCENT))
    answer_ = admit(world.responder.handle(request))
    assert said(answer_) == (B.ERROR, F.BAD_MESSAGE_CHECK)
    assert answer_.recipient == name(PERCENT)

    def answer(request: Message) -> bytes:
        protector = MacProtector(SECRET)
        status = ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.REJECTION, "%s%n%s"))
        header = make_header(
            sender=name(PERCENT),
            recipient=b"0\0",
            transaction_id=request.transaction_id,
            sender_nonce=os.urandom(16),
            recip_nonce=request.sender_nonce,
        )
        return protect(header, B.ERROR, encode(status), protector)

    with pytest.raises(ProtectionError, match="not from the expected sender"):
        session(answer, expected_sender="CN=server").enroll("CN=a", key=KEYS[0])


# -- CVE-2026-63074: extraCerts that stay --------------------------------------------------------------------------------


def test_cve_2026_63074_extra_certs_of_strangers_do_not_stay() -> None:
    world = fresh_world()
    trust = world.responder.trust
    assert trust is not None
    before = (trust.anchors, len(trust._met), len(trust._cache), len(trust._owned[1]))
    device = world.device(secret="another")
    for number in range(20):
        stranger = der(certificate(f"stranger {number}", key(number=number % 4), ca=True))
        request = device.build(B.GENM, [])
        read = admit(request)
        answer = world.responder.handle(assemble(read.protected_part, read.protection, [stranger] * 8))
        assert said(admit(answer)) == (B.ERROR, F.BAD_MESSAGE_CHECK)
        device.begin()
    assert (trust.anchors, len(trust._met), len(trust._cache), len(trust._owned[1])) == before


# -- CVE-2026-42767: an encrypted certificate that does not say how ----------------------------------------------------


@pytest.mark.parametrize("value", [b"\x30\x03\x03\x01\x00", b"\x30\x00", b"\xa0\x00"], ids=bytes.hex)
def test_cve_2026_42767_at_clients(value: bytes) -> None:
    pair = CertifiedKeyPair(cert_or_enc_cert=Variant(tlv(value), "encryptedCert"))
    response = CertResponse(cert_req_id=0, status=PKIStatusInfo.make(PKIStatus.ACCEPTED), certified_key_pair=pair)
    for popo in ("signature", "keyEnc"):
        with pytest.raises(CMPError):
            session(lambda request: answer_to(request, B.IP, CertRepMessage(response=[response])), popo=popo).enroll(
                "CN=a", key=KEYS[0]
            )


# -- CVE-2026-75805: revCerts for who asked by CSR -----------------------------------------------------------------------


def test_cve_2026_75805_certificates_that_nobody_named() -> None:
    other = CertId(issuer=directory_name(name("CN=other")), serial_number=666)
    content = RevRepContent(status=[PKIStatusInfo.make(PKIStatus.ACCEPTED)], rev_certs=[other])
    asking = Signer(der(INTER), INTER_KEY)
    protector = protector_for(asking)

    def answer(request: Message) -> bytes:
        header = make_header(
            sender=protector.sender_name,
            recipient=b"0\0",
            transaction_id=request.transaction_id,
            sender_nonce=os.urandom(16),
            recip_nonce=request.sender_nonce,
        )
        return protect(header, B.RP, encode_body(B.RP, content), protector)

    client = Session(Context(credential=asking, trusted=[ROOT], ignore_key_usage=True), Answering(answer))
    with pytest.raises(BadMessage):
        client.revoke(INTER)


# -- CVE-2026-84783: one certificate, first used by many threads at once ------------------------------------------------


def test_cve_2026_84783_first_use_by_eight_threads() -> None:
    for number in range(5):
        leaf = der(certificate(f"leaf {number}", key(), "intermediate", INTER_KEY))
        trust = Trust(ROOT)
        start = threading.Barrier(8)

        def use(
            _: int, leaf: bytes = leaf, trust: Trust = trust, start: threading.Barrier = start
        ) -> tuple[bytes, ...]:
            start.wait()
            return trust.path(leaf, [der(INTER)])

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(use, range(8)))
        assert found == [(leaf, der(INTER), der(ROOT))] * 8


# -- CVE-2025-9232: no_proxy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", ["[", "]", "[::1", "::1]", ",", " ", ".", "[]", "[" * 300, "a" * 5000, "\u00e9"])
def test_cve_2025_9232_no_proxy_of_any_form(hosts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from opensslcmp.transport import HTTPTransport

    monkeypatch.setenv("no_proxy", hosts)
    for server in "http://[::1]:9/", "http://127.0.0.1:9/":
        HTTPTransport(server, proxy="http://127.0.0.1:8/").close()


# -- traps --------------------------------------------------------------------------------------------------------------


def test_ca_pubs_of_an_answer_are_told_and_trusted_by_nobody() -> None:
    foreign = der(certificate("foreign", key(), ca=True))
    world = fresh_world()
    world.device()
    changed = []

    def answer(request: Message) -> bytes:
        whole = admit(world.responder.handle(request.der))
        content = whole.content()
        changed.append(True)
        protector = MacProtector(SECRET)
        planted = CertRepMessage(ca_pubs=[tlv(foreign)], response=content.response)
        return protect(_header_of(whole), B.IP, encode(planted), protector)

    client = session(answer, implicit_confirm=True)
    issued = client.enroll("CN=device", key=KEYS[0])
    assert changed
    assert list(map(der, issued.ca_certificates)) == [foreign]
    assert client.context.trusted == ()
    assert client.context.trust is None


def _header_of(message: Message) -> bytes:
    header = message.header
    return encode(
        make_header(
            sender=message.sender or b"0\0",
            recipient=message.recipient or b"0\0",
            transaction_id=header.transaction_id,
            sender_nonce=header.sender_nonce,
            recip_nonce=header.recip_nonce,
            general_info=header.general_info or (),
        )
    )


def test_an_ip_of_a_client_leaves_the_trust_of_openssls_own_server_alone() -> None:
    """By validating it, unguarded, the library takes caPubs into the server's X509_STORE."""
    foreign = certificate("Planted", key("ec", 7), ca=True)
    server = peers.make_server(peers.CA())
    server.context.trust([peers.root().der])
    reference = SharedSecret(peers.REFERENCE, peers.SECRET)
    protector = MacProtector(reference)
    content = CertRepMessage(
        ca_pubs=[tlv(der(foreign))],
        response=[CertResponse(cert_req_id=0, status=PKIStatusInfo.make(PKIStatus.ACCEPTED))],
    )
    header = make_header(
        sender=protector.sender_name, recipient=b"0\0", transaction_id=os.urandom(16), sender_nonce=os.urandom(16)
    )
    with pytest.raises(BadMessage, match="not accepted"):
        server.process(protect(header, B.IP, encode_body(B.IP, content), protector))
    planted = Signer(der(certificate("device", key("ec", 8), "Planted", key("ec", 7))), key("ec", 8))
    asking = protector_for(planted)
    header = make_header(
        sender=asking.sender_name, recipient=b"0\0", transaction_id=os.urandom(16), sender_nonce=os.urandom(16)
    )
    answer = admit(server.process(protect(header, B.IR, encode_body(B.IR, [crmf(KEYS[0])]), asking)))
    assert answer.body_type is B.ERROR


def test_a_certificate_that_verified_before_is_verified_again() -> None:
    """Who leaves extraCerts out of the second answer is believed by the certificate of the first: if that still holds."""
    short = certificate("device", key(), "root", key("ec", 100), end=NOW + timedelta(days=2))
    first = admit(message(protector_for(Signer(short, key()))))
    bare = admit(assemble(first.protected_part, first.protection))
    trust = Trust(ROOT)
    assert verify(first, trust=trust).certificate == der(short)
    assert verify(bare, trust=trust, candidates=[der(short)]).certificate == der(short)
    later = datetime.now(UTC) + timedelta(days=3)
    with pytest.raises(ProtectionError) as caught:
        verify(bare, trust=trust, candidates=[der(short)], at=later)
    assert caught.value.failure is F.SIGNER_NOT_TRUSTED


def test_what_one_client_did_wrong_is_told_to_no_other() -> None:
    world = fresh_world()
    device = world.device()
    certificate_ = device.enroll(KEYS[0])
    signing = device.signing(certificate_, KEYS[0])
    read = admit(signing.build(B.GENM, []))
    broken = assemble(read.protected_part, b"\x30\x06\x02\x01\x01\x02\x01\x01", read.extra_certs)
    assert said(admit(world.responder.handle(broken))) == (B.ERROR, F.BAD_MESSAGE_CHECK)
    assert drain() == []

    # What a neighbour in this process, such as the standard library's ssl, left in the queue of the thread.
    leave_an_error()
    other = world.device("other")
    answer = other.send(B.ERROR, ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.REJECTION)))
    assert said(answer) == (B.ERROR, F.BAD_REQUEST)
    assert status_of(answer).text == ("no such transaction",)
    server = peers.make_server(peers.CA())
    leave_an_error()
    answer = admit(server.process(other.build(B.GENM, [])))
    assert b"asn1" not in answer.body_der.lower()
    assert b"d2i" not in answer.body_der.lower()
    assert drain() == []


def leave_an_error() -> None:
    """An entry in libcrypto's error queue that is somebody else's."""
    from opensslcmp._native import ffi

    data = ffi.new("unsigned char[]", b"\x30\x03\x02\x01\x00")
    assert lib.d2i_X509(ffi.NULL, ffi.new("const unsigned char **", data), 5) == ffi.NULL


class Spying:
    """An authority that must not be asked."""

    def __init__(self, authority: CA) -> None:
        self._authority = authority
        self.asked: list[CertificateRequest] = []

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._authority, attribute)

    def issue(self, request: CertificateRequest) -> Issued:
        self.asked.append(request)
        raise AssertionError


def spied() -> tuple[World, Device, Spying]:
    """A world whose authority must not be asked."""
    world = fresh_world()
    spy = Spying(world.ca)
    responder = world.again(spy)
    return world, world.device(handle=responder.handle), spy


@pytest.mark.parametrize("asked", ["no key", "empty key", "empty key and proof"])
def test_a_request_for_a_generated_key_does_not_come_to_a_ca_that_makes_none(asked: str) -> None:
    _, device, spy = spied()
    spki = decode(SubjectPublicKeyInfo, KEYS[0].public_key_der)
    bare = SubjectPublicKeyInfo(algorithm=spki.algorithm, subject_public_key=type(spki.subject_public_key)(b"", 0))
    request = crmf(
        KEYS[0], popo="signature" if "proof" in asked else "none", public_key=None if asked == "no key" else bare
    )
    for pvno in (2, 3):
        answer = device.ask(B.IR, request, pvno=pvno)
        assert said(answer)[1] in {F.BAD_CERT_TEMPLATE, F.BAD_POP, F.NOT_AUTHORIZED}
    assert spy.asked == []


def test_a_certificate_comes_to_nobody_whose_follow_up_is_anothers() -> None:
    world = fresh_world()
    device = world.device()
    certificate_ = certificate_of(device.ask(B.IR, crmf(KEYS[0])))
    signing = world.device("signer")
    own = signing.enroll(KEYS[1], "CN=signer")
    for enemy in (world.device("enemy"), signing.signing(own, KEYS[1])):
        enemy.transaction_id, enemy.recip_nonce = device.transaction_id, device.recip_nonce
        assert said(enemy.confirm(certificate_))[0] is B.ERROR
        assert said(enemy.send(B.POLL_REQ, []))[0] is B.ERROR
        assert said(enemy.send(B.ERROR, ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.REJECTION))))[
            0
        ] is (B.ERROR)
    assert said(device.confirm(certificate_)) == (B.PKICONF, None)
