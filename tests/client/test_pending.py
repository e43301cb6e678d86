"""A transaction that the server puts off: saved, loaded, taken up again, given up; by ``Session`` and ``AsyncSession``."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from opensslcmp import (
    AsyncSession,
    BadMessage,
    BodyType,
    Context,
    Issued,
    Pending,
    PKIStatus,
    ProtectionError,
    Rejected,
    Revoked,
    Session,
    SharedSecret,
    Signer,
    TimedOut,
)
from opensslcmp.asn1 import ErrorMsgContent, PKIStatusInfo, RootCaKeyUpdateContent, admit, encode_info, oids, tlv
from opensslcmp.context.certificates import Trust
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacProtector, SignatureProtector
from tests.client.client_peers import SECRET, Entity, certify
from tests.client.scripted import Scripted


@pytest.fixture
def peer(ca: Entity) -> Scripted:
    return Scripted(ca, MacProtector(SECRET), secret=SECRET)


Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def twin(request: pytest.FixtureRequest) -> Call:
    """``twin(context, peer, "enroll", ...)`` on either session, in an event loop of its own: as in another process."""

    def sync(context: Context, peer: Any, name: str, *arguments: Any, **options: Any) -> Any:
        return getattr(Session(context, peer, sleep=lambda seconds: None), name)(*arguments, **options)

    def asynchronous(context: Context, peer: Any, name: str, *arguments: Any, **options: Any) -> Any:
        session = AsyncSession(context, peer, sleep=lambda seconds: None)
        return anyio.run(lambda: getattr(session, name)(*arguments, **options))

    return sync if request.param == "sync" else asynchronous


def mac(**options: Any) -> Context:
    return Context(credential=SECRET, **options)


def test_an_enrollment_that_waits_is_saved_and_resumed_elsewhere(twin: Call, peer: Scripted) -> None:
    peer.waits, peer.check_after = 2, 7
    key = PrivateKey.generate("ec:P-256")
    pending = twin(mac(), peer, "enroll", "CN=device-17", key, wait=False)
    assert isinstance(pending, Pending)
    assert (pending.kind, pending.waiting_for, pending.key) == (BodyType.IR, 0, key)
    saved = pending.save()
    assert key.to_pem() not in saved
    assert SECRET.secret not in saved
    assert SECRET.reference not in saved
    loaded = Pending.load(saved)
    assert loaded == dataclasses.replace(pending, key=None)
    once = twin(mac(), peer, "resume", loaded, wait=False)
    assert isinstance(once, Pending)
    assert once.check_after_seconds == 7.0
    issued = twin(mac(), peer, "resume", Pending.load(once.save()), key=key)
    assert isinstance(issued, Issued)
    assert issued.key is not None
    assert issued.key.public_key_der == key.public_key_der
    assert issued.transaction_id == pending.transaction_id
    assert issued.transaction_id in peer.confirmed
    assert peer.kinds == [BodyType.IR, BodyType.POLL_REQ, BodyType.POLL_REQ, BodyType.CERT_CONF]
    assert len(peer.issued) == 1


def test_a_mac_keeps_its_salt_over_a_resumption(twin: Call, peer: Scripted) -> None:
    peer.waits = 1
    pending = twin(mac(), peer, "enroll", "CN=device-17", generate="ec:P-256", wait=False)
    twin(mac(), peer, "resume", Pending.load(pending.save()))
    assert len({message.protection_algorithm for message in peer.requests}) == 1


def test_the_key_need_not_be_there_for_a_certificate_in_clear(twin: Call, peer: Scripted) -> None:
    peer.waits = 1
    pending = twin(mac(), peer, "enroll", "CN=device-17", generate="ec:P-256", wait=False)
    issued = twin(mac(), peer, "resume", Pending.load(pending.save()))
    assert issued.key is None
    assert issued.transaction_id in peer.confirmed


@pytest.mark.parametrize("kind", ["cr", "csr", "update", "revoke", "info", "confirmation"])
def test_every_request_may_be_put_off(twin: Call, ca: Entity, device: Entity, kind: str) -> None:
    peer = Scripted(ca, MacProtector(SECRET), secret=SECRET, trust=Trust([ca.certificate]))
    peer.waits = 1
    context = mac()
    options: dict[str, Any] = {"generate": "ec:P-256"}
    arguments: tuple[Any, ...] = ("CN=device-17",)
    name = "enroll"
    if kind == "cr":
        options["kind"] = "cr"
    elif kind == "csr":
        name, arguments, options = "enroll_csr", (csr(),), {}
    elif kind == "update":
        name, arguments = "update", (device.certificate,)
    elif kind == "revoke":
        name, arguments, options = "revoke", (device.certificate,), {}
    elif kind == "info":
        name, arguments, options = "request_info", (oids.IT_CA_CERTS,), {}
        peer.info = lambda asked: [encode_info(oids.IT_CA_CERTS, [ca.der])]
    else:
        peer.waits = 0
        put_off = Confirming(peer)
        pending = twin(context, put_off, name, *arguments, **options, wait=False)
        assert pending.asked is BodyType.CERT_CONF
        issued = twin(context, put_off, "resume", Pending.load(pending.save()))
        assert isinstance(issued, Issued)
        assert issued.transaction_id in peer.confirmed
        return
    pending = twin(context, peer, name, *arguments, **options, wait=False)
    assert isinstance(pending, Pending)
    result = twin(context, peer, "resume", Pending.load(pending.save()))
    if kind == "revoke":
        assert isinstance(result, Revoked)
    elif kind == "info":
        assert [each.oid for each in result] == [oids.IT_CA_CERTS]
    else:
        assert isinstance(result, Issued)
        assert result.transaction_id in peer.confirmed


def root_update(old: Entity) -> tuple[Entity, RootCaKeyUpdateContent]:
    new = certify("new root", ec.generate_private_key(ec.SECP256R1()), is_ca=True)
    linked = certify("new root", new.key, old, is_ca=True)
    return new, RootCaKeyUpdateContent(new_with_new=tlv(new.der), new_with_old=tlv(linked.der))


def crl(issuer: Entity, days: int = 0) -> x509.CertificateRevocationList:
    now = datetime.now(UTC)
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - timedelta(days=1 - days))
        .next_update(now + timedelta(days=9))
        .sign(issuer.key, hashes.SHA256())
    )


@pytest.mark.parametrize("saved", [False, True], ids=["same process", "elsewhere"])
@pytest.mark.parametrize(
    "question", ["ca_certificates", "root_ca_update", "certificate_request_template", "crl_update"]
)
def test_every_question_may_be_put_off(twin: Call, ca: Entity, question: str, saved: bool) -> None:
    new, content = root_update(ca)
    fresh = crl(ca)
    arguments: tuple[Any, ...]
    oid, value, arguments, expected = {
        "ca_certificates": (oids.IT_CA_CERTS, [ca.der], (), (ca.certificate,)),
        "root_ca_update": (oids.IT_ROOT_CA_KEY_UPDATE, content, (ca.certificate,), new.certificate),
        "certificate_request_template": (oids.IT_CERT_REQ_TEMPLATE, None, (), None),
        "crl_update": (oids.IT_CRLS, [fresh.public_bytes(serialization.Encoding.DER)], (crl(ca, -1),), fresh),
    }[question]
    peer = Scripted(ca, MacProtector(SECRET), secret=SECRET, info=lambda asked: [encode_info(oid, value)], waits=2)
    options = {"issuer": ca.certificate} if question == "crl_update" else {}
    pending = twin(mac(), peer, question, *arguments, **options, wait=False)
    assert isinstance(pending, Pending)
    assert ca.der not in pending.save()
    taken = Pending.load(pending.save()) if saved else pending
    context = mac(trusted=[ca.certificate]) if saved and arguments else mac()
    again = twin(context, peer, "resume", taken, wait=False)
    assert isinstance(again, Pending)
    result = twin(context, peer, "resume", again)
    assert (result.new_with_new if question == "root_ca_update" else result) == expected
    assert peer.kinds == [BodyType.GENM, BodyType.POLL_REQ, BodyType.POLL_REQ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, "not among those of the context"),
        ({"fingerprint": None}, "which root"),
        ({"question": "1.2.3"}, "no question of ours"),
        ({"question": oids.IT_CRL_STATUS_LIST, "fingerprint": None}, "whose CRL"),
    ],
)
def test_a_changed_question_is_refused(twin: Call, ca: Entity, changes: dict[str, Any], problem: str) -> None:
    oid = oids.IT_CRLS if "question" in changes else oids.IT_ROOT_CA_KEY_UPDATE
    value: Any = root_update(ca)[1]
    if oid == oids.IT_CRLS:
        value = [crl(ca).public_bytes(serialization.Encoding.DER)]
    peer = Scripted(ca, MacProtector(SECRET), secret=SECRET, info=lambda asked: [encode_info(oid, value)], waits=1)
    pending = twin(mac(), peer, "root_ca_update", ca.certificate, wait=False)
    changed = dataclasses.replace(Pending.load(pending.save()), **({"held": None} | changes))
    if not changes:
        # Another root in its place would be no gain: it has to be one that is trusted already.
        changed = dataclasses.replace(changed, fingerprint=b"x" * 32)
    elif changes.get("question"):
        changed = dataclasses.replace(changed, fingerprint=None)
    with pytest.raises(ValueError, match=problem):
        twin(mac(trusted=[ca.certificate]), peer, "resume", changed)


class Confirming:
    """Puts the answer to a certConf off."""

    def __init__(self, peer: Scripted) -> None:
        self.peer = peer
        self.held: Any = None

    def send(self, request: bytes, timeout_seconds: float) -> bytes:
        message = admit(request)
        if message.body_type is BodyType.CERT_CONF:
            self.held = message
            status = ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.WAITING))
            return self.peer.build(message, BodyType.ERROR, status)
        if message.body_type is BodyType.POLL_REQ:
            self.peer.answer(self.held)
            return self.peer.build(message, BodyType.PKICONF, None)
        return self.peer.send(request, timeout_seconds)


def csr() -> bytes:
    name = x509.Name.from_rfc4514_string("CN=device-17")
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def test_an_encrypted_certificate_needs_the_key_again(twin: Call, peer: Scripted) -> None:
    peer.waits = 1
    key = PrivateKey.generate("rsa:2048")
    context = mac(popo="keyEnc")
    pending = twin(context, peer, "enroll", "CN=device-17", key, wait=False)
    with pytest.raises(ValueError, match="private key is needed"):
        twin(context, peer, "resume", Pending.load(pending.save()))
    issued = twin(context, peer, "resume", Pending.load(pending.save()), key)
    assert issued.transaction_id in peer.confirmed


def test_a_signed_transaction_goes_on_with_the_same_signer(twin: Call, ca: Entity, device: Entity) -> None:
    signer = SignatureProtector(Signer(ca.certificate, ca.key))
    protector = Scripted(ca, signer, trust=Trust([ca.certificate]), waits=1)
    context = Context(credential=Signer(device.certificate, device.key), trusted=ca.certificate)
    pending = twin(context, protector, "enroll", "CN=device-18", generate="ec:P-256", wait=False)
    assert twin(context, protector, "resume", Pending.load(pending.save())).transaction_id in protector.confirmed


def test_another_party_or_key_does_not_resume_it(twin: Call, peer: Scripted) -> None:
    peer.waits = 1
    pending = twin(mac(), peer, "enroll", "CN=device-17", generate="ec:P-256", wait=False)
    other = Context(credential=SharedSecret("other", "secret"))
    sent = len(peer.requests)
    with pytest.raises(ValueError, match="another credential"):
        twin(other, peer, "resume", pending)
    with pytest.raises(ValueError, match="key is not the one"):
        twin(mac(), peer, "resume", pending, PrivateKey.generate("ec:P-256"))
    assert len(peer.requests) == sent


def test_a_pending_whose_time_is_over_is_not_asked_for(twin: Call, peer: Scripted) -> None:
    peer.waits = 1
    pending = twin(mac(), peer, "enroll", "CN=device-17", generate="ec:P-256", wait=False)
    assert 6.9 * 86400 < pending.deadline - time.time() < 7.1 * 86400
    with pytest.raises(TimedOut):
        twin(mac(), peer, "resume", dataclasses.replace(pending, deadline=time.time() - 1))


def test_a_refusal_after_waiting_is_raised(twin: Call, peer: Scripted) -> None:
    peer.waits = 1

    def refuse(issued: Issued) -> None:
        raise Rejected(None, "not mine")

    pending = twin(mac(), peer, "enroll", "CN=device-17", generate="ec:P-256", wait=False)
    with pytest.raises(Rejected, match="not mine"):
        twin(mac(), peer, "resume", pending, confirm=refuse)
    assert peer.kinds[-1] is BodyType.CERT_CONF
    assert peer.confirmed == set()


def test_check_and_abandon_belong_to_the_session_that_asked(peer: Scripted) -> None:
    peer.waits, peer.check_after = 3, 1
    session = Session(mac(min_poll_seconds=0.01), peer)
    pending = session.enroll("CN=device-17", generate="ec:P-256", wait=False)
    assert isinstance(pending, Pending)
    again = pending.check()
    assert isinstance(again, Pending)
    again.abandon()
    assert peer.kinds == [BodyType.IR, BodyType.POLL_REQ, BodyType.ERROR]
    with pytest.raises(ValueError, match="belongs to no session"):
        Pending.load(again.save()).check()
    with pytest.raises(ValueError, match="belongs to no session"):
        Pending.load(again.save()).abandon()


def test_check_and_abandon_are_awaited_on_an_async_session(peer: Scripted) -> None:
    peer.waits = 3

    async def main() -> list[BodyType]:
        session = AsyncSession(mac(min_poll_seconds=0.01), peer)
        pending = await session.enroll("CN=device-17", generate="ec:P-256", wait=False)
        assert isinstance(pending, Pending)
        again = await pending.check()
        await again.abandon()
        return peer.kinds

    assert anyio.run(main) == [BodyType.IR, BodyType.POLL_REQ, BodyType.ERROR]


def test_check_after_is_clamped(twin: Call, peer: Scripted) -> None:
    peer.waits, peer.check_after = 2, 86400 * 365
    context = mac(max_poll_seconds=60.0)
    pending = twin(context, peer, "enroll", "CN=device-17", generate="ec:P-256", wait=False)
    assert twin(context, peer, "resume", pending, wait=False).check_after_seconds == 60.0


def test_a_pending_tells_no_secrets_and_is_not_pickled(peer: Scripted) -> None:
    peer.waits = 1
    context = Context("https://user:hidden@ca.example/p?token=hidden", credential=SECRET)
    pending = Session(context, peer).enroll("CN=device-17", generate="ec:P-256", token="one-time-hidden", wait=False)
    assert isinstance(pending, Pending)
    assert b"hidden" not in pending.save()
    assert pending.server == "https://ca.example/p"
    with pytest.raises(TypeError, match="save"):
        pickle.dumps(pending)


def saved(peer: Scripted) -> bytes:
    peer.waits = 1
    pending = Session(mac(), peer).enroll("CN=device-17", generate="ec:P-256", wait=False)
    assert isinstance(pending, Pending)
    return pending.save()


def test_what_is_no_saved_pending_is_a_clear_error(peer: Scripted) -> None:
    good = saved(peer)
    values = json.loads(good)
    for bad in (
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        good[:-1],
        b" " * (2 << 20),
        json.dumps(values | {"version": 2}).encode(),
        json.dumps(values | {"version": True}).encode(),
        json.dumps(values | {"more": 1}).encode(),
        json.dumps(values | {"kind": 23}).encode(),
        json.dumps(values | {"kind": "0"}).encode(),
        json.dumps(values | {"transaction_id": "***"}).encode(),
        json.dumps(values | {"transaction_id": ""}).encode(),
        json.dumps(values | {"deadline": "soon"}).encode(),
        json.dumps(values | {"deadline": float("nan")}).encode(),
        json.dumps(values | {"deadline": 10**400}).encode(),
        json.dumps(values | {"nonces": []}).encode(),
        json.dumps(values | {"nonces": ["AA=="] * 3}).encode(),
        json.dumps(values | {"popo": []}).encode(),
        json.dumps(values | {"implicit_confirm": 1}).encode(),
        json.dumps(values | {"waiting_for": 1 << 40}).encode(),
        json.dumps(values | {"server": "javascript:alert(1)"}).encode(),
        json.dumps(values | {"label": "a\nb"}).encode(),
        json.dumps({name: value for name, value in values.items() if name != "nonces"}).encode(),
    ):
        with pytest.raises(ValueError, match="saved Pending"):
            Pending.load(bad)


def test_changed_bytes_load_as_something_or_not_at_all(peer: Scripted) -> None:
    good = saved(peer)
    chance = random.Random(7)
    for _ in range(2000):
        changed = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            assert isinstance(Pending.load(bytes(changed)), Pending)
        except ValueError:
            continue


def test_a_forged_answer_in_a_saved_pending_is_not_believed(twin: Call, peer: Scripted) -> None:
    put_off = Confirming(peer)
    pending = twin(mac(), put_off, "enroll", "CN=device-17", generate="ec:P-256", wait=False)
    assert pending.answer is not None
    forged = dataclasses.replace(pending, answer=pending.answer.replace(b"device-17", b"device-18", 1))
    assert forged.answer != pending.answer
    with pytest.raises((ProtectionError, BadMessage)):
        twin(mac(), put_off, "resume", Pending.load(forged.save()))
    other = dataclasses.replace(pending, transaction_id=b"0123456789abcdef")
    with pytest.raises(BadMessage, match="another transaction"):
        twin(mac(), put_off, "resume", Pending.load(other.save()))


def test_resume_and_abandon_have_the_same_arguments_on_both_sessions() -> None:
    for name in ("resume", "abandon"):
        ours = inspect.signature(getattr(AsyncSession, name))
        assert list(ours.parameters) == list(inspect.signature(getattr(Session, name)).parameters)
