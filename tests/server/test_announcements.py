"""Announcements that a server receives: who may announce, the hook of each kind, and what is acknowledged how."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from opensslcmp import Context, ProtectionError, Rejected, Signer
from opensslcmp.asn1 import CertId, GeneralizedTime, RevAnnContent, admit, encode, tlv
from opensslcmp.client.announcements import (
    ANNOUNCEMENTS,
    Announcement,
    Notice,
    announce,
    announcement_message,
    receive_announcement,
)
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.protection import MacProtector, Protector, protector_for
from opensslcmp.credentials import SharedSecret
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import BadMessage, TransportError
from opensslcmp.server import Peer, Responder
from opensslcmp.server.announcements import Ears, Hook, Unheard
from opensslcmp.server.generations import roll_over
from opensslcmp.server.http_service import answer_to
from tests.server.device import KEYS, said
from tests.server.world import World, other_ca

B, F = BodyType, FailureInfo
NOW = datetime.now(UTC).replace(microsecond=0)


def ca_signer() -> Protector:
    certificate, key = other_ca()
    return protector_for(Signer(certificate, key))


def notices(world: World) -> dict[BodyType, Notice]:
    """One of each kind."""
    certificate, _ = other_ca()
    return {
        B.CKUANN: Notice.ca_key_update(certificate, certificate, certificate),
        B.CANN: Notice.certificate(certificate),
        B.RANN: Notice.revocation(facts(certificate).subject, 7, at=NOW, reason=RevocationReason.SUPERSEDED),
        B.CRLANN: Notice.crls([world.ca.crl()]),
    }


class Heard(list[Announcement]):
    """A hook that remembers, and answers as it is told to."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__()
        self.answer = answer

    def __call__(self, announcement: Announcement) -> Any:
        self.append(announcement)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def listening(world: World, hook: Hook | None = None, **options: Any) -> tuple[Responder, Heard]:
    """A Responder that hears what the other CA announces."""
    heard = Heard()
    ears = Ears(trust=Trust([other_ca()[0]]), hooks=dict.fromkeys(ANNOUNCEMENTS, heard if hook is None else hook))
    return world.again(announcements=ears, **options), heard


@pytest.mark.parametrize("kind", sorted(ANNOUNCEMENTS))
@pytest.mark.parametrize("profile", ["rfc9810", "strict", "lenient"])
def test_each_kind_has_its_hook(world: World, kind: BodyType, profile: str) -> None:
    from opensslcmp.server import PROFILES

    responder, heard = listening(world, profile=PROFILES[profile])
    answer = responder.handle(announcement_message(notices(world)[kind], ca_signer()))
    assert answer == b""
    assert answer_to(answer).status == 201
    assert answer_to(answer).body == b""
    assert [each.kind for each in heard] == [kind]
    assert heard[0].verified.certificate == other_ca()[0]


def test_a_hook_gets_what_was_announced(world: World) -> None:
    responder, heard = listening(world)
    for notice in notices(world).values():
        responder.handle(announcement_message(notice, ca_signer()))
    by_kind = {each.kind: each for each in heard}
    assert by_kind[B.CANN].certificate == x509.load_der_x509_certificate(other_ca()[0])
    assert by_kind[B.CRLANN].crls == (x509.load_der_x509_crl(world.ca.crl()),)
    told = by_kind[B.RANN].revocation
    assert (told.issuer, told.serial_number) == (facts(other_ca()[0]).subject, 7)
    assert (told.status, told.at, told.bad_since) == (PKIStatus.REVOCATION_NOTIFICATION, NOW, NOW)
    assert told.reason is RevocationReason.SUPERSEDED
    with pytest.raises(TypeError, match="rann"):
        _ = by_kind[B.RANN].certificate


@pytest.mark.parametrize("deprecated", [False, True])
def test_a_key_update_leads_from_the_root_that_is_held_to_the_new_one(tmp_path: Any, deprecated: bool) -> None:
    from opensslcmp.server import CA

    CA.create(tmp_path / "ca", "CN=Rolling CA").close()
    old = CA.open(tmp_path / "ca")
    root = old.certificate
    old.close()
    roll_over(tmp_path / "ca", days=100)
    ca = CA.open(tmp_path / "ca")
    update = ca.knowledge.root_updates[0]
    notice = Notice.ca_key_update(update.new_with_new, update.new_with_old, update.old_with_new, deprecated=deprecated)
    assert notice.pvno == (2 if deprecated else 3)
    # Signed with the new key: who holds the old root believes it by newWithOld.
    message = announcement_message(notice, protector_for(ca.signer))
    ca.close()
    assert admit(message).header.pvno == notice.pvno
    holder = Context(trusted=root, unprotected_requests=True)
    found = receive_announcement(holder, message).root_update(root)
    assert found.new_with_new == x509.load_der_x509_certificate(update.new_with_new)
    with pytest.raises(ProtectionError):
        receive_announcement(holder, message).root_update(other_ca()[0])


def test_the_deprecated_form_of_a_key_update_needs_all_three() -> None:
    with pytest.raises(ValueError, match="newWithOld"):
        Notice.ca_key_update(other_ca()[0], deprecated=True)


def test_what_is_going_to_be_done_is_accepted(world: World) -> None:
    later = Heard(False)
    responder, _ = listening(world, later)
    answer = responder.handle(announcement_message(notices(world)[B.CANN], ca_signer()))
    assert (answer, answer_to(answer).status) == (b"", 202)


def refused(world: World, message: bytes, hook: Hook | None = None, **options: Any) -> tuple[FailureInfo | None, int]:
    responder, heard = listening(world, hook, **options)
    answer = responder.handle(message)
    assert isinstance(answer, Unheard)
    assert answer == bytes(answer)
    body, failure = said(admit(bytes(answer)))
    assert body is B.ERROR
    reply = answer_to(answer)
    assert reply.content_type != b"application/pkixcmp"
    assert not heard
    return failure, reply.status


def test_an_announcement_of_a_stranger_is_refused(world: World) -> None:
    stranger = protector_for(world.ca.signer)
    message = announcement_message(notices(world)[B.CANN], stranger)
    assert refused(world, message) == (F.SIGNER_NOT_TRUSTED, 403)


def test_an_end_entity_announces_nothing(make: Callable[..., World]) -> None:
    world = make()
    certificate = world.device().enroll(KEYS[0])
    message = announcement_message(notices(world)[B.CANN], protector_for(Signer(certificate, KEYS[0])))
    heard = Heard()
    ears = Ears(trust=Trust([world.ca.certificate]), hooks={B.CANN: heard})
    answer = world.again(announcements=ears).handle(message)
    assert said(admit(bytes(answer))) == (B.ERROR, F.NOT_AUTHORIZED)
    listed = world.again(announcements=ears, registration_authorities=[facts(certificate).fingerprint])
    assert listed.handle(message) == b""
    assert len(heard) == 1


def test_an_announcement_under_a_mac_is_refused(world: World) -> None:
    world.ca.add_secret("device", "secret")
    device = world.device()
    message = device.build(B.CANN, other_ca()[0])
    assert isinstance(device.credential, MacProtector)
    assert refused(world, message)[0] is F.WRONG_INTEGRITY
    with pytest.raises(ProtectionError, match="not signed"):
        receive_announcement(Context(credential=SharedSecret("device", b"secret")), message)
    with pytest.raises(ValueError, match="is signed"):
        announcement_message(notices(world)[B.CANN], device.credential)


def test_an_announcement_without_protection_is_refused(world: World) -> None:
    device = world.device()
    assert refused(world, device.build(B.CANN, other_ca()[0], protected=False))[0] is F.WRONG_INTEGRITY


def test_an_old_announcement_is_refused(world: World) -> None:
    world.clock.now += 301
    assert refused(world, announcement_message(notices(world)[B.CANN], ca_signer())) == (F.BAD_TIME, 400)


def test_an_old_announcement_is_not_received_at_a_client(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    message = announcement_message(notices(world)[B.CANN], ca_signer())
    now = time.time()
    monkeypatch.setattr("opensslcmp.client.announcements.time.time", lambda: now + 400)
    context = Context(trusted=other_ca()[0], unprotected_requests=True)
    with pytest.raises(BadMessage, match="messageTime"):
        receive_announcement(context, message)
    assert receive_announcement(context, message, message_time_seconds=500).kind is B.CANN


def test_a_kind_that_nobody_listens_for_is_refused(world: World) -> None:
    ears = Ears(trust=Trust([other_ca()[0]]), hooks={B.RANN: Heard()})
    answer = world.again(announcements=ears).handle(announcement_message(notices(world)[B.CANN], ca_signer()))
    assert answer_to(answer).status == 400
    with pytest.raises(ValueError, match="genm"):
        Ears(trust=Trust([other_ca()[0]]), hooks={B.GENM: Heard()})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Rejected(F.BAD_REQUEST, "not here"), (F.BAD_REQUEST, 400)),
        (Rejected(F.SYSTEM_UNAVAIL, "later"), (F.SYSTEM_UNAVAIL, 503)),
        (RuntimeError("disk"), (F.SYSTEM_FAILURE, 500)),
    ],
)
def test_a_hook_that_refuses_or_fails_is_told_of(
    world: World, error: Exception, expected: tuple[FailureInfo, int]
) -> None:
    assert refused(world, announcement_message(notices(world)[B.CANN], ca_signer()), Heard(error)) == expected


def test_a_server_that_is_closed_takes_no_announcement(world: World) -> None:
    message = announcement_message(notices(world)[B.CANN], ca_signer())
    assert refused(world, message, is_open=lambda: False) == (F.SYSTEM_UNAVAIL, 503)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (B.CANN, b"\x30\x00"),
        (B.CRLANN, b"\x30\x02\x30\x00"),
        (B.RANN, b"\x30\x00"),
        (
            B.RANN,
            encode(
                RevAnnContent(
                    status=2,
                    cert_id=CertId(issuer=tlv(b"\x82\x01a"), serial_number=1),
                    will_be_revoked_at=GeneralizedTime(NOW),
                    bad_since_date=GeneralizedTime(NOW),
                )
            ),
        ),
        (B.CKUANN, b"\xa0\x02\x30\x00"),
    ],
)
def test_what_does_not_decode_is_refused(world: World, kind: BodyType, body: bytes) -> None:
    message = announcement_message(Notice(kind=kind, body=body), ca_signer())
    assert refused(world, message) == (F.BAD_DATA_FORMAT, 400)


def test_a_server_that_does_not_listen_answers_as_to_any_message_that_is_not_for_it(world: World) -> None:
    answer = world.responder.handle(announcement_message(notices(world)[B.CANN], ca_signer()))
    assert said(admit(answer)) == (B.ERROR, F.BAD_REQUEST)


def test_who_looks_on_is_told(world: World) -> None:
    events: list[Any] = []
    responder, _ = listening(world, observe=events.append)
    responder.handle(announcement_message(notices(world)[B.CANN], ca_signer()), Peer(address="192.0.2.1"))
    responder.handle(announcement_message(notices(world)[B.CANN], protector_for(world.ca.signer)))
    assert [(each.body_type, each.decision.value) for each in events] == [(B.CANN, "accepted"), (B.CANN, "error")]


def test_an_announcement_is_delivered_by_any_transport(world: World) -> None:
    message = announcement_message(notices(world)[B.CANN], ca_signer())

    class Carrier:
        def __init__(self, answer: bytes) -> None:
            self.answer = answer

        def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
            assert request == message
            return self.answer

    announce(Carrier(b""), message)
    device = world.device()
    announce(Carrier(device.build(B.PKICONF, None)), message)
    with pytest.raises(Rejected) as caught:
        announce(Carrier(world.responder.handle(message)), message)
    assert caught.value.failure is F.BAD_REQUEST
    with pytest.raises(TransportError, match="genm"):
        announce(Carrier(device.build(B.GENM, [])), message)
    with pytest.raises(TransportError, match="no message"):
        announce(Carrier(b"nonsense"), message)


def test_a_warning_tells_of_what_is_yet_to_come(world: World) -> None:
    later = NOW + timedelta(days=1)
    notice = Notice.revocation(
        facts(other_ca()[0]).subject, 9, at=later, bad_since=NOW, status=PKIStatus.REVOCATION_WARNING
    )
    context = Context(trusted=other_ca()[0], unprotected_requests=True)
    told = receive_announcement(context, announcement_message(notice, ca_signer())).revocation
    assert (told.status, told.at, told.bad_since, told.reason) == (PKIStatus.REVOCATION_WARNING, later, NOW, None)
