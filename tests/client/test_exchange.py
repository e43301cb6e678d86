"""The exchange against a CA in this process: protections that libcrypto's CMP lacks, polling, hostile answers, time."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.asn1 import Variant
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opensslcmp import (
    AsyncSession,
    BadMessage,
    CMPError,
    Context,
    FailureInfo,
    MacParameters,
    ProtectionError,
    ProtectionKind,
    Rejected,
    Revoked,
    Session,
    SharedSecret,
    Signer,
    TimedOut,
)
from opensslcmp._native import lib
from opensslcmp.asn1 import (
    CertifiedKeyPair,
    CertRepMessage,
    CertResponse,
    ErrorMsgContent,
    Message,
    PKIStatusInfo,
    admit,
    assemble,
    oids,
    tlv,
)
from opensslcmp.client import Waits, greenlets, operations
from opensslcmp.context import certificates, enrollment, keys, protection
from opensslcmp.context.certificates import Trust
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacProtector, SignatureProtector
from opensslcmp.enums import BodyType, PKIStatus
from tests.client.client_peers import SECRET, Entity, certify, name
from tests.client.scripted import Scripted, refusal, reply

PBMAC1 = MacParameters(scheme="pbmac1", iterations=1000)


@pytest.fixture
def mac_ca(ca: Entity) -> Callable[..., Scripted]:
    """A CA that shares the secret."""

    def make(**options: Any) -> Scripted:
        options.setdefault("protector", MacProtector(SECRET))
        return Scripted(ca, secret=SECRET, **options)

    return make


MakeCA = Callable[..., Scripted]


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


Enroll = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def enroll(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Enroll:
    """An enrollment as ``Session`` does it, and as ``AsyncSession`` does."""

    def sync(peer: Any, context: Context | None = None, clock: Clock | None = None, **options: Any) -> Any:
        clock = clock or Clock()
        context = context or Context(credential=SECRET)
        options.setdefault("generate", "ec:P-256")
        return operations.enroll(Waits(peer.send, clock.sleep, clock.now), context, "CN=device-17", **options)

    def asynchronous(peer: Any, context: Context | None = None, clock: Clock | None = None, **options: Any) -> Any:
        clock = clock or Clock()
        session = AsyncSession(context or Context(credential=SECRET), peer, sleep=clock.sleep)
        options.setdefault("generate", "ec:P-256")
        with monkeypatch.context() as patch:
            patch.setattr(greenlets, "WAITS", dataclasses.replace(greenlets.WAITS, now=clock.now))
            return anyio.run(lambda: session.enroll("CN=device-17", **options))

    return sync if request.param == "sync" else asynchronous


# -- protections that the linked OpenSSL's CMP may not have --------------------------------------------------------


def test_a_polled_ir_with_pbmac1_and_explicit_confirmation(enroll: Enroll, mac_ca: MakeCA) -> None:
    secret = SharedSecret(SECRET.reference, SECRET.secret, parameters=PBMAC1)
    peer = mac_ca(protector=MacProtector(SECRET, PBMAC1), waits=3)
    clock = Clock()
    result = enroll(peer, Context(credential=secret), clock)
    assert result.protection.kind is ProtectionKind.MAC
    assert result.protection.algorithm == oids.name_of(oids.PBMAC1)
    assert [verified.algorithm for verified in peer.verified] == [oids.name_of(oids.PBMAC1)] * 5
    assert clock.slept == [1.0, 1.0]
    assert peer.kinds == [BodyType.IR, *[BodyType.POLL_REQ] * 3, BodyType.CERT_CONF]
    assert result.transaction_id in peer.confirmed


@pytest.mark.parametrize("kind", ["ed25519", "pss", "rsa", "ec"])
def test_a_polled_ir_signed_with_any_algorithm(enroll: Enroll, ca: Entity, kind: str) -> None:
    keys: dict[str, Callable[[], Any]] = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ec": lambda: ec.generate_private_key(ec.SECP384R1()),
    }
    make = keys.get(kind, lambda: rsa.generate_private_key(65537, 2048))
    server, device = certify("server", make(), ca), certify("device", make(), ca)
    peer = Scripted(
        ca, SignatureProtector(Signer(server.certificate, server.key), pss=kind == "pss"), trust=Trust(ca.certificate),
        waits=1,
    )  # fmt: skip
    credential = SignatureProtector(Signer(device.certificate, device.key), pss=kind == "pss")
    result = enroll(peer, Context(credential=credential, trusted=ca.certificate))
    assert result.protection.kind is ProtectionKind.SIGNATURE
    assert result.protection.signer == server.certificate
    assert result.protection.chain == (server.certificate, ca.certificate)
    assert peer.verified[0].certificate == device.der
    assert result.transaction_id in peer.confirmed
    assert result.chain == (ca.certificate,)


def test_a_certificate_signed_with_ed25519_is_confirmed_with_a_named_hash(enroll: Enroll) -> None:
    ca = certify("ca", ed25519.Ed25519PrivateKey.generate(), is_ca=True)
    peer = Scripted(ca, MacProtector(SECRET), secret=SECRET)
    result = enroll(peer, generate="ed25519")
    assert result.transaction_id in peer.confirmed
    assert result.key.public_key_der[-32:] == result.certificate.public_key().public_bytes_raw()


def test_the_secrets_parameters_are_used(enroll: Enroll, mac_ca: MakeCA) -> None:
    parameters = MacParameters(owf="SHA512", mac="hmac-sha512", iterations=777, salt_length=24)
    peer = mac_ca()
    enroll(peer, Context(credential=SharedSecret(SECRET.reference, SECRET.secret, parameters=parameters)))
    assert {verified.mac for verified in peer.verified} == {parameters}
    peer = mac_ca()
    enroll(peer, Context(credential=SECRET, owf="SHA384", mac="hmac-sha384"))
    assert peer.verified[0].mac is not None
    assert (peer.verified[0].mac.owf, peer.verified[0].mac.mac) == ("SHA384", "hmac-sha384")


# -- requests ------------------------------------------------------------------------------------------------------


def template(message: Message) -> Any:
    return message.content()[0].cert_req.cert_template


def test_the_template_says_what_was_asked_for(enroll: Enroll, mac_ca: MakeCA) -> None:
    peer = mac_ca()
    start, end = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
    enroll(
        peer,
        subject_alternative_names=[x509.DNSName("device.example")],
        extensions=[x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")])],
        policies=["1.2.3.4"],
        validity=(start, end),
        profile="router",
        token="one-time",
        issuer="CN=ca",
    )
    wished = template(peer.requests[0])
    found = {each.oid for each in wished.extensions}
    assert found == {"2.5.29.17", "2.5.29.32", "2.5.29.37"}
    assert wished.validity.not_before.as_datetime() == start
    assert wished.validity.not_after.as_datetime() == end
    assert wished.issuer_der == name("ca").public_bytes()
    assert peer.requests[0].cert_profile == ("router",)
    assert peer.requests[0].content()[0].cert_req.control(oids.REG_CTRL_REG_TOKEN) is not None


def test_days_of_validity_are_asked_for(enroll: Enroll, mac_ca: MakeCA) -> None:
    peer = mac_ca()
    enroll(peer, validity=30)
    validity = template(peer.requests[0]).validity
    assert (validity.not_after.as_datetime() - validity.not_before.as_datetime()).days == 30


def test_a_key_is_needed(enroll: Enroll, mac_ca: MakeCA) -> None:
    with pytest.raises(ValueError, match="either a key or generate"):
        enroll(mac_ca(), generate=None)
    with pytest.raises(ValueError, match="subject"):
        Session(Context(credential=SECRET), mac_ca()).enroll(generate="ec:P-256")


def test_implicit_confirmation_is_asked_for_and_noticed(enroll: Enroll, mac_ca: MakeCA) -> None:
    peer = mac_ca(grant_implicit=True)
    assert enroll(peer, implicit_confirm=True).implicitly_confirmed
    assert peer.kinds == [BodyType.IR]
    peer = mac_ca(grant_implicit=True)
    assert not enroll(peer).implicitly_confirmed
    assert peer.kinds == [BodyType.IR, BodyType.CERT_CONF]


def test_ca_pubs_are_handed_out_and_never_trusted(enroll: Enroll, mac_ca: MakeCA) -> None:
    stranger = certify("stranger", ec.generate_private_key(ec.SECP256R1()), is_ca=True)
    context = Context(credential=SECRET)
    assert enroll(mac_ca(ca_pubs=(stranger.der,)), context).ca_certificates == (stranger.certificate,)
    signer = SignatureProtector(Signer(stranger.certificate, stranger.key))
    with pytest.raises(ProtectionError):
        enroll(mac_ca(protector=signer), context)


# -- polling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ir", "p10cr", "kur", "rr", "genm"])
@pytest.mark.parametrize("first_nonce", [False, True], ids=["last nonce", "first nonce"])
def test_every_body_type_may_have_to_wait(
    ca: Entity, device: Entity, server_entity: Entity, kind: str, first_nonce: bool
) -> None:
    signer = SignatureProtector(Signer(server_entity.certificate, server_entity.key))
    peer = Scripted(
        ca, signer, trust=Trust(ca.certificate), waits=2, by_error=True, first_nonce=first_nonce, check_after=5
    )
    clock = Clock()
    waits = Waits(peer.send, clock.sleep, clock.now)
    context = Context(credential=Signer(device.certificate, device.key), trusted=ca.certificate)
    match kind:
        case "ir":
            operations.enroll(waits, context, "CN=device", generate="ec:P-256")
        case "p10cr":
            csr = x509.CertificateSigningRequestBuilder().subject_name(name("device"))
            operations.enroll_csr(waits, context, csr.sign(device.key, hashes.SHA256()))
        case "kur":
            operations.update(waits, context, generate="ec:P-256")
        case "rr":
            revoked = operations.revoke(waits, context)
            assert isinstance(revoked, Revoked)
            assert revoked.status_text == ("revoked",)
        case _:
            operations.request_info(waits, context, oids.IT_CA_CERTS)
    assert clock.slept == [5.0]
    assert peer.requests[1].content()[0].cert_req_id == -1


def test_check_after_is_clamped(enroll: Enroll, mac_ca: MakeCA) -> None:
    clock = Clock()
    enroll(mac_ca(waits=2, check_after=0), clock=clock)
    enroll(mac_ca(waits=2, check_after=10**9), Context(credential=SECRET, max_poll_seconds=60), clock)
    assert clock.slept == [1.0, 60.0]


def test_polling_ends_with_the_total_timeout_and_the_server_is_told(enroll: Enroll, mac_ca: MakeCA) -> None:
    peer, clock = mac_ca(waits=10**6, check_after=50), Clock()
    with pytest.raises(TimedOut):
        enroll(peer, Context(credential=SECRET, total_timeout_seconds=120), clock)
    assert clock.time <= 1120
    assert peer.kinds[-1] is BodyType.ERROR
    assert peer.requests[-1].content().pki_status_info.status == PKIStatus.REJECTION


def test_a_server_that_only_ever_says_waiting_is_not_asked_without_pause(enroll: Enroll, mac_ca: MakeCA) -> None:
    peer, clock = mac_ca(), Clock()
    waiting = ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.WAITING))
    peer.answer = lambda message: peer.build(message, BodyType.ERROR, waiting)  # type: ignore[method-assign]
    with pytest.raises(TimedOut):
        enroll(peer, Context(credential=SECRET, total_timeout_seconds=20, min_poll_seconds=2), clock)
    assert len(peer.requests) <= 13
    assert set(clock.slept[:-1]) == {2.0}


def test_a_pending_request_is_given_up_on_ctrl_c_and_the_server_told(enroll: Enroll, mac_ca: MakeCA) -> None:
    peer, clock = mac_ca(waits=10), Clock()

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    clock.sleep = interrupt  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        enroll(peer, clock=clock)
    assert peer.kinds == [BodyType.IR, BodyType.POLL_REQ, BodyType.ERROR]


def test_each_message_gets_the_message_timeout_or_what_is_left(enroll: Enroll, mac_ca: MakeCA) -> None:
    peer, clock = mac_ca(waits=2, check_after=70), Clock()
    enroll(peer, Context(credential=SECRET, message_timeout_seconds=60, total_timeout_seconds=100), clock)
    assert peer.timeouts == [60, 60, 30, 30]


def test_no_answer_is_a_transport_error_as_it_was_raised(enroll: Enroll) -> None:
    class Dead:
        def send(self, request: bytes, timeout_seconds: float) -> bytes:
            raise TimedOut("nobody there")

    with pytest.raises(TimedOut, match="nobody there"):
        enroll(Dead())


# -- hostile answers -----------------------------------------------------------------------------------------------


def changed(**fields: Any) -> Callable[[int, bytes], bytes]:
    """The first answer with other header fields, properly protected."""

    def change(number: int, answer: bytes) -> bytes:
        read = admit(answer)
        return reply(read, read.body_type, read.body_der, MacProtector(SECRET), **{**_same(read), **fields})

    return change


def _same(read: Message) -> dict[str, Any]:
    return {"recip_nonce": read.recip_nonce}


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"recip_nonce": b"x" * 16}, FailureInfo.BAD_RECIPIENT_NONCE),
        ({"recip_nonce": None}, FailureInfo.BAD_RECIPIENT_NONCE),
        ({"transaction_id": b"y" * 16}, FailureInfo.BAD_REQUEST),
        ({"pvno": 1}, FailureInfo.UNSUPPORTED_VERSION),
        ({"sender_nonce": b"z"}, FailureInfo.BAD_SENDER_NONCE),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_header_is_refused(
    enroll: Enroll, mac_ca: MakeCA, fields: dict[str, Any], failure: FailureInfo
) -> None:
    with pytest.raises(BadMessage) as caught:
        enroll(mac_ca(change=changed(**fields)))
    assert caught.value.failure is failure


@pytest.mark.parametrize("body_type", [BodyType.CP, BodyType.PKICONF, BodyType.GENP, BodyType.IR, BodyType.POLL_REP])
def test_another_body_type_is_refused(enroll: Enroll, mac_ca: MakeCA, body_type: BodyType) -> None:
    def change(number: int, answer: bytes) -> bytes:
        read = admit(answer)
        return reply(read, body_type, read.body_der, MacProtector(SECRET), **_same(read))

    with pytest.raises(BadMessage, match="not accepted"):
        enroll(mac_ca(change=change))


def test_a_replayed_answer_is_refused(enroll: Enroll, mac_ca: MakeCA) -> None:
    recorded: list[bytes] = []

    def change(number: int, answer: bytes) -> bytes:
        recorded.append(answer)
        return recorded[0]

    with pytest.raises(BadMessage):
        enroll(mac_ca(change=change))


def test_what_a_peer_can_send_instead_is_a_clear_error(enroll: Enroll, mac_ca: MakeCA) -> None:
    source = random.Random(7)
    for turn in range(300):

        def change(number: int, answer: bytes, turn: int = turn) -> bytes:
            match turn % 3:
                case 0:
                    return answer[: source.randrange(len(answer))]
                case 1:
                    position = source.randrange(len(answer))
                    return (
                        answer[:position]
                        + bytes([answer[position] ^ (1 << source.randrange(8))])
                        + answer[position + 1 :]
                    )
            return source.randbytes(source.randrange(600))

        # extraCerts are not covered by a MAC: a flipped bit there may go unnoticed, anywhere else it may not.
        try:
            enroll(mac_ca(change=change))
        except (BadMessage, ProtectionError):
            continue
        assert turn % 3 == 1


def test_a_huge_answer_is_refused(enroll: Enroll, mac_ca: MakeCA) -> None:
    with pytest.raises(BadMessage, match="bytes"):
        enroll(mac_ca(change=lambda number, answer: answer + bytes(2 << 20)))


def test_a_mac_under_another_secret_is_refused(enroll: Enroll, mac_ca: MakeCA) -> None:
    with pytest.raises(ProtectionError):
        enroll(mac_ca(protector=MacProtector(SharedSecret("device-17", "guess"))))


def test_an_error_message_is_believed_when_it_is_protected(enroll: Enroll, mac_ca: MakeCA) -> None:
    def change(number: int, answer: bytes) -> bytes:
        read = admit(answer)
        return reply(read, BodyType.ERROR, refusal(FailureInfo.BAD_ALG, "never"), MacProtector(SECRET), **_same(read))

    with pytest.raises(Rejected, match="never") as caught:
        enroll(mac_ca(change=change))
    assert caught.value.failure is FailureInfo.BAD_ALG


def test_an_error_message_without_protection_is_quoted_but_not_believed(enroll: Enroll, mac_ca: MakeCA) -> None:
    def change(number: int, answer: bytes) -> bytes:
        read = admit(answer)
        return reply(read, BodyType.ERROR, refusal(FailureInfo.BAD_ALG, "never"), None, **_same(read))

    with pytest.raises(ProtectionError, match="never"):
        enroll(mac_ca(change=change))


def test_an_unknown_status_is_refused(enroll: Enroll, mac_ca: MakeCA) -> None:
    def change(number: int, answer: bytes) -> bytes:
        read = admit(answer)
        content = CertRepMessage(response=[CertResponse(cert_req_id=0, status=PKIStatusInfo(status=99))])
        return reply(read, BodyType.IP, content, MacProtector(SECRET), **_same(read))

    with pytest.raises(BadMessage, match="99"):
        enroll(mac_ca(change=change))


def test_an_encrypted_certificate_that_was_not_asked_for_never_reaches_libcrypto(
    enroll: Enroll, mac_ca: MakeCA
) -> None:
    empty = tlv(b"\x30\x03\x03\x01\x00")  # an EncryptedValue with encValue alone: CVE-2026-42767
    pair = CertifiedKeyPair(cert_or_enc_cert=Variant(empty, "encryptedCert"))
    response = CertResponse(cert_req_id=0, status=PKIStatusInfo.make(PKIStatus.ACCEPTED), certified_key_pair=pair)

    def change(number: int, answer: bytes) -> bytes:
        read = admit(answer)
        content = CertRepMessage(response=[response])
        return reply(read, BodyType.IP, content, MacProtector(SECRET), **_same(read))

    for popo in ("signature", "keyEnc"):
        with pytest.raises(CMPError):
            enroll(mac_ca(change=change), Context(credential=SECRET, popo=popo))


def test_a_certificate_that_is_none_is_libcryptos_error(enroll: Enroll, mac_ca: MakeCA) -> None:
    peer = mac_ca(issue=lambda subject, spki: b"\x30\x03\x02\x01\x00")
    with pytest.raises(CMPError):
        enroll(peer)
    assert peer.kinds[-1] is BodyType.ERROR


JUNK = b"\x30\x03\x02\x01\x00"


@pytest.mark.parametrize("signature", [False, True], ids=["mac", "signature"])
@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
def test_an_unreadable_certificate_in_extra_certs_does_no_harm(
    enroll: Enroll, ca: Entity, device: Entity, server_entity: Entity, signature: bool, first: bool
) -> None:
    def change(number: int, answer: bytes) -> bytes:
        read = admit(answer)
        certificates = (JUNK, *read.extra_certs) if first else (*read.extra_certs, JUNK)
        return assemble(read.protected_part, read.protection, certificates)

    signer = SignatureProtector(Signer(server_entity.certificate, server_entity.key))
    peer = Scripted(
        ca,
        signer if signature else MacProtector(SECRET),
        secret=SECRET,
        trust=Trust(ca.certificate) if signature else None,
        change=change,
    )
    credential: Any = Signer(device.certificate, device.key) if signature else SECRET
    context = Context(
        credential=credential, trusted=ca.certificate if signature else (), permit_ta_in_extra_certs_for_ir=signature
    )
    result = enroll(peer, context)
    assert result.chain == (ca.certificate,)
    assert ca.certificate in result.extra_certificates
    assert len(result.extra_certificates) == 1 + signature
    operations.revoke(Waits(peer.send), context, result.certificate)


@pytest.mark.parametrize("popo", ["signature", "raVerified", "none"])
def test_the_template_holds_our_key_whatever_the_proof(enroll: Enroll, mac_ca: MakeCA, popo: Any) -> None:
    peer = mac_ca()
    key = PrivateKey.generate("ec:P-256")
    result = enroll(peer, Context(credential=SECRET, popo=popo), generate=None, key=key)
    assert _peer_key(result.certificate) == key.public_key_der
    proof = peer.requests[0].content()[0].popo
    assert (None if proof is None else proof.tag) == (None if popo == "none" else popo)


def test_an_unreadable_protection_certificate_is_a_protection_error(
    enroll: Enroll, ca: Entity, device: Entity, server_entity: Entity
) -> None:
    def change(number: int, answer: bytes) -> bytes:
        read = admit(answer)
        return assemble(read.protected_part, read.protection, (JUNK,))

    signer = SignatureProtector(Signer(server_entity.certificate, server_entity.key))
    peer = Scripted(ca, signer, trust=Trust(ca.certificate), change=change)
    with pytest.raises(ProtectionError):
        enroll(peer, Context(credential=Signer(device.certificate, device.key), trusted=ca.certificate))


def test_nothing_secret_is_in_an_error_or_a_repr(mac_ca: MakeCA) -> None:
    context = Context(credential=SECRET)
    session = Session(context, mac_ca(protector=MacProtector(SharedSecret("device-17", "guess"))))
    with pytest.raises(ProtectionError) as caught:
        session.enroll("CN=device", generate="ec:P-256")
    for text in (str(caught.value), repr(context), repr(session)):
        assert "open sesame" not in text


# -- sharing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "shown"),
    [
        ("http://user:hidden@host:80/path@x", "http://host:80/path@x"),
        ("user:hid@den@host", "host"),
        ("https://host/p", "https://host/p"),
        (None, "without server"),
    ],
)
def test_a_password_in_the_servers_url_is_not_in_the_repr(server: str | None, shown: str) -> None:
    assert repr(Context(server, credential=SECRET)).startswith(f"<Context {shown} <")


def test_fifty_threads_share_one_context(mac_ca: MakeCA) -> None:
    peer = mac_ca(waits=0)
    lock = threading.Lock()

    def send(request: bytes, timeout_seconds: float) -> bytes:
        with lock:
            return peer.send(request, timeout_seconds)

    session = Session(Context(credential=SECRET), type("Locked", (), {"send": staticmethod(send)})())
    results: list[Any] = []
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            results.append((number, session.enroll(f"CN=device-{number}", generate="ec:P-256")))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert len({result.transaction_id for _, result in results}) == 50
    for number, result in results:
        assert result.certificate.subject == name(f"device-{number}")
        assert result.key.public_key_der == _peer_key(result.certificate)


def _peer_key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_context_does_not_change() -> None:
    context = Context(credential=SECRET)
    with pytest.raises(AttributeError):
        context.popo = "none"


@pytest.mark.parametrize(
    "options",
    [
        {"credential": None},
        {"message_timeout_seconds": 0},
        {"total_timeout_seconds": float("inf")},
        {"popo": "maybe"},
        {"implicit_confirm": True, "disable_confirm": True},
        {"validity_days": -1},
    ],
    ids=str,
)
def test_contradictions_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Context(**{"credential": SECRET, **options})


# -- crossings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", [False, True], ids=["mac", "signature"])
def test_crossings_into_c_are_few(
    enroll: Enroll, ca: Entity, device: Entity, server_entity: Entity, signature: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each crossing may wait for the GIL: at most 4 per message; the clearing of the error queue is one of them."""
    if signature:
        peer = Scripted(
            ca, SignatureProtector(Signer(server_entity.certificate, server_entity.key)), trust=Trust(ca.certificate)
        )
        context = Context(credential=Signer(device.certificate, device.key), trusted=ca.certificate)
    else:
        peer = Scripted(ca, MacProtector(SECRET), secret=SECRET)
        context = Context(credential=SECRET)
    key = PrivateKey.generate("ec:P-256")
    enroll(peer, context, generate=None, key=key)  # paths, certificates and keys are remembered from now on

    inside = False
    counted: list[str] = []

    class Counting:
        def __getattr__(self, attribute: str) -> Any:
            value = getattr(lib, attribute)
            if inside or not callable(value):
                return value

            def call(*arguments: Any) -> Any:
                counted.append(attribute)
                return value(*arguments)

            return call

    def send(request: bytes, timeout_seconds: float) -> bytes:
        nonlocal inside
        inside = True
        try:
            return peer.send(request, timeout_seconds)
        finally:
            inside = False

    for module in (enrollment, keys, protection, certificates):
        monkeypatch.setattr(module, "lib", Counting())
    waits = Waits(send)
    operations.enroll(waits, context, "CN=device", key)
    messages = 4
    callbacks = 1
    assert len(counted) + callbacks <= 4 * messages, counted
