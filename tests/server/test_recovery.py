"""Key recovery: what is archived, how, and who is given it back."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import Context, PrivateKey, Rejected, Session, SharedSecret, Signer
from opensslcmp.asn1 import (
    AttributeTypeAndValue,
    CertReqMsg,
    CertRequest,
    CertTemplate,
    EncKeyWithID,
    Message,
    decode,
    encode,
    oids,
)
from opensslcmp.asn1.controls import archive, archive_generated
from opensslcmp.client.recovery import archive_control
from opensslcmp.context.certificates import facts
from opensslcmp.context.cms import Recipient, open_enveloped, seal
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.server import CA, IssuingProfile, open_responder
from opensslcmp.server.audit import audit_line
from opensslcmp.server.escrow import Escrow
from opensslcmp.server.events import Event
from opensslcmp.server.key_generation import KeyGenerator
from opensslcmp.server.sqlstore import SQLStore
from opensslcmp.server.store import CertificateState, certificate_key
from tests.server.device import KEYS, Device, said
from tests.server.test_key_generation import kga
from tests.server.world import Plain, World, fresh_world

B, F = BodyType, FailureInfo
BOTH = x509.Extension(
    x509.KeyUsage.oid,
    True,
    x509.KeyUsage(True, False, False, False, True, False, False, False, False),
)
"""digitalSignature and keyAgreement."""


@functools.cache
def own_escrow() -> tuple[bytes, PrivateKey]:
    """Certificate and key of an escrow of the world's CA."""
    world, key = fresh_world(), PrivateKey.generate("ec:P-256")
    profile = IssuingProfile(key_usage=("keyAgreement",))
    ca = CA(world.ca.certificate, world.ca._key, world.store, Plain(), profiles=(profile,))
    world.ca.add_secret("escrow", "secret")
    session = Session(Context("http://ca.example", credential=SharedSecret("escrow", "secret")), world.again(ca).handle)
    own = session.enroll("CN=Escrow", key).certificate.public_bytes(Encoding.DER)
    return own, key


def escrow(always: bool = False) -> Escrow:
    return Escrow(*own_escrow(), KeyGenerator(*kga(), Plain()), always=always)


def archiving(always: bool = False, **options: Any) -> World:
    return fresh_world(escrow=escrow(always), key_generator=KeyGenerator(*kga(), Plain()), **options)


def session_of(world: World, reference: str = "device") -> Session:
    world.device(reference)
    context = Context("http://ca.example", credential=SharedSecret(reference, "secret"))
    return Session(context, world.responder.handle)


def signing(world: World, issued: Any, key: PrivateKey) -> Session:
    credential = Signer(issued.certificate, key)
    return Session(
        Context("http://ca.example", credential=credential, trusted=[world.ca.certificate]), world.responder.handle
    )


def krr(world: World, device: Device | None = None, number: int = 1, **fields: Any) -> Message:
    """The answer to a bare krr."""
    template = {
        each: fields.pop(each) for each in ("issuer", "serial_number", "subject", "public_key") if each in fields
    }
    popo = fields.pop("popo", None)
    request = CertReqMsg(cert_req=CertRequest(cert_req_id=0, cert_template=CertTemplate(**template)), popo=popo)
    return (device or world.device()).ask(B.KRR, *[request] * number, **{"pvno": 3, **fields})


def refusal_of(session: Session, *arguments: Any, **options: Any) -> FailureInfo | None:
    with pytest.raises(Rejected) as caught:
        session.recover_keys(*arguments, **options)
    return caught.value.failure


def key_of(certificate: Any) -> bytes:
    about = facts(certificate.public_bytes(Encoding.DER))
    return certificate_key(about.issuer, about.serial_number)


def test_a_key_that_was_sent_is_given_back_to_its_owner() -> None:
    world = archiving()
    session = session_of(world)
    own = PrivateKey.generate("rsa:2048")
    issued = session.enroll("CN=device", own, archive=escrow().certificate)
    (found,) = session.recover_keys()
    assert found.certificate == issued.certificate
    assert found.key.to_pkcs8() == own.to_pkcs8()
    content = krr(world).content()
    assert content.status.status == PKIStatus.ACCEPTED
    assert content.new_sig_cert is None
    (pair,) = content.key_pair_hist
    assert pair.certificate == issued.certificate.public_bytes(Encoding.DER)


def test_a_key_that_was_made_here_is_archived_when_that_is_asked_for_or_always() -> None:
    world = archiving()
    session = session_of(world)
    asked = session.enroll("CN=device", generate="central", archive=True)
    session.enroll("CN=device", generate="central")
    session.enroll("CN=device", generate="central", controls=[archive_generated(False)])
    (found,) = session.recover_keys()
    assert asked.key is not None
    assert (found.certificate, found.key.to_pkcs8()) == (asked.certificate, asked.key.to_pkcs8())
    world = archiving(always=True)
    made = session_of(world).enroll("CN=device", generate="central")
    assert [each.certificate for each in session_of(world).recover_keys()] == [made.certificate]


def test_current_and_old_keys_come_the_newest_first_and_to_each_credential_of_the_line() -> None:
    """First by secret, then updated, and updated again without the escrow: old keys stay the holder's."""
    world = archiving()
    keys = [PrivateKey.generate("ec:P-256") for _ in range(3)]
    first = session_of(world).enroll("CN=device", keys[0], extensions=[BOTH], archive=escrow().certificate)
    world.clock.now += 1
    second = signing(world, first, keys[0]).update(key=keys[1], extensions=[BOTH])
    world.clock.now += 1
    third = signing(world, second, keys[1]).enroll(
        "CN=device", keys[2], extensions=[BOTH], kind="cr", archive=escrow().certificate
    )
    for session in (session_of(world), signing(world, second, keys[1])):
        found = session.recover_keys()
        assert [each.certificate for each in found] == [third.certificate, first.certificate]
    assert [each.key.public_key_der for each in found] == [keys[2].public_key_der, keys[0].public_key_der]
    assert [each.certificate for each in signing(world, third, keys[2]).recover_keys()] == [third.certificate]
    assert [each.certificate for each in session.recover_keys(first.certificate)] == [first.certificate]
    assert refusal_of(session, subject="CN=other") is F.BAD_CERT_ID


def test_the_key_of_a_certificate_that_has_expired_is_given_back() -> None:
    world = archiving()
    session = session_of(world)
    now = datetime.now(UTC).replace(microsecond=0)
    issued = session.enroll(
        "CN=device", KEYS[0], archive=escrow().certificate, validity=(now, now + timedelta(seconds=2))
    )
    while datetime.now(UTC) <= issued.certificate.not_valid_after_utc:
        time.sleep(0.1)
    assert [each.certificate for each in session.recover_keys()] == [issued.certificate]


def test_nobody_else_is_given_a_key_nor_told_whether_there_is_one() -> None:
    world = archiving()
    issued = session_of(world).enroll("CN=device", KEYS[0], archive=escrow().certificate)
    stranger = session_of(world, "stranger")
    signed = signing(world, stranger.enroll("CN=stranger", KEYS[1], extensions=[BOTH]), KEYS[1])
    # Of the same shared secret, but of another subject.
    other = signing(world, session_of(world).enroll("CN=other", KEYS[2], extensions=[BOTH]), KEYS[2])
    answers = set()
    for session in (stranger, signed, other):
        for arguments in ((), (issued.certificate,)):
            with pytest.raises(Rejected) as caught:
                session.recover_keys(*arguments)
            answers.add((caught.value.failure, caught.value.text))
    assert answers == {(F.BAD_CERT_ID, ("no archived key of yours is like that",))}


def test_a_registration_authority_recovers_the_certificate_that_it_names() -> None:
    world = archiving()
    issued = session_of(world).enroll("CN=device", KEYS[0], archive=escrow().certificate)
    ra = session_of(world, "ra").enroll("CN=RA", KEYS[1], extensions=[BOTH])
    fingerprint = facts(ra.certificate.public_bytes(Encoding.DER)).fingerprint
    world.responder = world.again(escrow=escrow(), registration_authorities=[fingerprint])
    session = signing(world, ra, KEYS[1])
    (found,) = session.recover_keys(issued.certificate)
    assert found.key.public_key_der == KEYS[0].public_key_der
    assert refusal_of(session) is F.BAD_CERT_TEMPLATE
    assert refusal_of(session, ra.certificate) is F.BAD_CERT_ID


def test_a_certificate_that_was_not_confirmed_has_no_key_and_a_revoked_one_has() -> None:
    world = archiving()
    session = session_of(world)
    with pytest.raises(Rejected):
        session.enroll("CN=device", KEYS[0], archive=escrow().certificate, confirm=refuse, implicit_confirm=False)
    assert refusal_of(session) is F.BAD_CERT_ID
    issued = session.enroll("CN=device", KEYS[1], archive=escrow().certificate)
    signing(world, issued, KEYS[1]).revoke(reason=RevocationReason.SUPERSEDED)
    record = world.store.certificate(key_of(issued.certificate))
    assert record is not None
    assert record.state is CertificateState.REVOKED
    assert [each.certificate for each in session.recover_keys()] == [issued.certificate]


def refuse(_: Any) -> None:
    raise Rejected(F.INCORRECT_DATA, "not wanted")


def sealed(content: bytes, content_type: str = oids.CT_ENC_KEY_WITH_ID) -> AttributeTypeAndValue:
    return archive(seal(content, Recipient.of(escrow().certificate), content_type=content_type))


@pytest.mark.parametrize("how", ["other key", "other recipient", "no EncKeyWithID", "other content type", "no key"])
def test_a_key_to_archive_that_is_not_as_it_should_be_gets_no_certificate(how: str) -> None:
    world = archiving()
    session = session_of(world)
    info = KEYS[0].to_pkcs8()
    controls: dict[str, Callable[[], AttributeTypeAndValue]] = {
        "other key": lambda: archive_control(KEYS[1], escrow().certificate, None),
        "other recipient": lambda: archive_control(KEYS[0], kga()[0], None),
        "no EncKeyWithID": lambda: sealed(info),
        "other content type": lambda: sealed(info, oids.CT_DATA),
        "no key": lambda: sealed(
            encode(decode(EncKeyWithID, b"0\x0f0\x0d\x02\x01\x000\x05\x06\x03\x2b\x65\x70\x04\x01\x00"))
        ),
    }
    with pytest.raises(Rejected) as caught:
        session.enroll("CN=device", KEYS[0], controls=[controls[how]()])
    assert caught.value.failure is F.BAD_POP
    assert world.store.certificates() == 0


def test_a_server_without_an_escrow_archives_nothing_and_refuses_to_recover() -> None:
    world = fresh_world()
    session = session_of(world)
    session.enroll("CN=device", KEYS[0], archive=escrow().certificate)
    assert world.store.archived(b"mac:device") == []
    assert said(krr(world)) == (B.ERROR, F.BAD_REQUEST)


def test_the_archive_has_no_key_in_clear_and_a_row_in_anothers_place_is_not_given() -> None:
    world = archiving()
    session = session_of(world)
    issued = session.enroll("CN=device", KEYS[0], archive=escrow().certificate)
    victim = session_of(world, "victim").enroll("CN=victim", KEYS[1], archive=escrow().certificate)
    (mine,), (theirs,) = world.store.archived(b"mac:device"), world.store.archived(b"mac:victim")
    assert mine.key == key_of(issued.certificate)
    assert theirs.key == key_of(victim.certificate)
    assert KEYS[0].to_pkcs8()[-32:] not in mine.sealed
    assert KEYS[0].to_pkcs8() in open_enveloped(mine.sealed, escrow()._key)
    world.store._archived[mine.key] = dataclasses.replace(mine, sealed=theirs.sealed)  # type: ignore[attr-defined]
    assert refusal_of(session) is F.SYSTEM_FAILURE


def test_a_retransmission_gets_the_same_bytes_and_the_transaction_is_over() -> None:
    world = archiving()
    session_of(world).enroll("CN=device", KEYS[0], archive=escrow().certificate)
    seen: list[tuple[bytes, bytes]] = []

    def handle(message: bytes) -> bytes:
        seen.append((message, world.responder.handle(message)))
        return seen[-1][1]

    context = Context("http://ca.example", credential=SharedSecret("device", "secret"))
    assert len(Session(context, handle).recover_keys()) == 1
    ((asked, answered),) = seen
    assert world.responder.handle(asked) == answered
    assert world.store.open_transactions(b"mac:device")[1] == 0


def test_each_recovery_is_in_the_audit_trail() -> None:
    events: list[Event] = []
    world = archiving(observe=events.append)
    session = session_of(world)
    issued = session.enroll("CN=device", KEYS[0], archive=escrow().certificate)
    session.recover_keys()
    event = events[-1]
    assert (event.body_type, event.answer, event.recovered) == (B.KRR, B.KRP, (issued.certificate.serial_number,))
    assert f'"recovered": ["{issued.certificate.serial_number:x}"]'.replace(" ", "") in audit_line(
        event, 1
    ).decode().replace(" ", "")


def test_a_used_up_secret_recovers_nothing_and_a_certificate_that_cannot_decrypt_neither() -> None:
    world = archiving()
    world.ca.add_secret("once", "secret", single_use=True)
    session = session_of(world, "once")
    session.enroll("CN=device", KEYS[0], archive=escrow().certificate)
    assert refusal_of(session) is F.NOT_AUTHORIZED
    key = PrivateKey.generate("ed25519")
    issued = session_of(world).enroll("CN=device", key, archive=escrow().certificate)
    assert refusal_of(signing(world, issued, key)) is F.NOT_AUTHORIZED


def test_an_archived_key_is_committed_with_its_certificate_in_a_database(tmp_path: Path) -> None:
    CA.create(tmp_path / "ca", "CN=Test CA", key_recovery=True).close()
    place = tmp_path / "ca"
    responder = open_responder(place)
    responder.authority.add_secret("device", "secret")  # type: ignore[attr-defined]
    context = Context("http://ca.example", credential=SharedSecret("device", "secret"))
    issued = Session(context, responder.handle).enroll("CN=device", KEYS[0], archive=place / "escrow.pem")
    responder.close()
    store = SQLStore(place / "ca.db")
    (archived,) = store.archived(b"mac:device")
    assert archived.key == key_of(issued.certificate)
    assert store.archived(b"mac:other") == []
    store.close()
    responder = open_responder(place)
    (found,) = Session(context, responder.handle).recover_keys()
    assert found.key.public_key_der == KEYS[0].public_key_der
    responder.close()


def test_an_escrow_needs_the_key_of_its_certificate() -> None:
    with pytest.raises(ValueError, match="not that of the certificate"):
        Escrow(kga()[0], KEYS[2], KeyGenerator(*kga(), Plain()))


def test_a_key_of_ones_own_needs_a_certificate_to_seal_it_to() -> None:
    with pytest.raises(ValueError, match="certificate of an escrow"):
        session_of(archiving()).enroll("CN=device", KEYS[0], archive=True)
