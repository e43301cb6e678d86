"""What a CA announces by itself, to whom, and how often it tries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from opensslcmp import Context, RevocationReason, Session, SharedSecret
from opensslcmp.client.announcements import Announcement, receive_announcement
from opensslcmp.context.protection import protector_for
from opensslcmp.enums import BodyType
from opensslcmp.errors import TransportError
from opensslcmp.server import CA, Responder, open_responder
from opensslcmp.server.announce_settings import AnnounceSettings
from opensslcmp.server.announcer import Announcer
from opensslcmp.server.generations import roll_over
from tests.server.world import Clock

B = BodyType
ONE, OTHER = "http://one.example/.well-known/cmp", "http://other.example/.well-known/cmp"
ALL = ("ckuann", "rann", "crlann", "cann")


class Receivers:
    """Receivers by URL, who believe the CA's first root."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: bytes, clock: Clock) -> None:
        self.context = Context(trusted=root, unprotected_requests=True)
        self.clock = clock
        self.heard: dict[str, list[Announcement]] = {ONE: [], OTHER: []}
        self.tried: list[str] = []
        self.failing: dict[str, Exception] = {}
        monkeypatch.setattr("opensslcmp.server.announcer.transport_for", self.transport)

    def transport(self, url: str, **options: Any) -> Any:
        receivers = self

        class Carrier:
            def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
                receivers.tried.append(url)
                if url in receivers.failing:
                    raise receivers.failing[url]
                receivers.heard[url].append(receive_announcement(receivers.context, request))
                return b""

            def close(self) -> None:
                """Nothing to close."""

        return Carrier()

    def kinds(self, url: str = ONE) -> list[BodyType]:
        return [each.kind for each in self.heard[url]]


class Place:
    """A CA in a directory, and what announces for it."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.clock = Clock()
        self.directory = directory
        CA.create(directory, "CN=Announcing CA").close()
        self.responder: Responder = open_responder(directory)
        self.root = self.ca.certificate
        self.ca.add_secret("device", b"secret")
        self.receivers = Receivers(monkeypatch, self.root, self.clock)
        values: dict[str, Any] = {"receivers": (ONE, OTHER), "retry_seconds": 10.0} | settings
        self.settings = AnnounceSettings(**values)
        self.announcer = self.again()

    def again(self) -> Announcer:
        """Another process."""
        return Announcer(
            self.directory / "announcements",
            self.settings,
            lambda: self.ca,
            lambda: protector_for(self.ca.signer),
            clock=self.clock,
        )

    @property
    def ca(self) -> CA:
        assert isinstance(self.responder.authority, CA)
        return self.responder.authority

    def enroll(self, name: str = "device") -> x509.Certificate:
        session = Session(Context(credential=SharedSecret("device", b"secret")), self.responder.handle)
        return session.enroll(f"CN={name}", generate="ec:P-256").certificate

    def left(self) -> int:
        return sum(each.stem.isdigit() for each in (self.directory / "announcements").glob("*.json"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place(tmp_path / "ca", monkeypatch, kinds=ALL)
    yield made
    made.announcer.close()
    made.responder.close()


def test_what_was_before_is_not_announced(place: Place) -> None:
    place.ca.change_status(place.enroll().serial_number, RevocationReason.SUPERSEDED)
    place.announcer.tick()
    assert place.receivers.tried == []


def test_revocations_and_crls_are_announced_to_all_receivers_once(place: Place) -> None:
    first, second = place.enroll("a"), place.enroll("b")
    place.announcer.tick()
    place.ca.change_status(first.serial_number, RevocationReason.KEY_COMPROMISE)
    place.ca.change_status(second.serial_number, RevocationReason.SUPERSEDED)
    place.announcer.tick()
    place.again().tick()
    for url in (ONE, OTHER):
        assert sorted(place.receivers.kinds(url)) == [B.RANN, B.RANN, B.CRLANN]
        told = {
            each.revocation.serial_number: each.revocation.reason
            for each in place.receivers.heard[url]
            if each.kind is B.RANN
        }
        assert told == {
            first.serial_number: RevocationReason.KEY_COMPROMISE,
            second.serial_number: RevocationReason.SUPERSEDED,
        }
        (crls,) = [each.crls for each in place.receivers.heard[url] if each.kind is B.CRLANN]
        assert {each.serial_number for each in crls[0]} == set(told)
    assert place.left() == 0
    place.ca.change_status(place.enroll("c").serial_number, RevocationReason.SUPERSEDED)
    place.again().tick()
    assert place.receivers.kinds().count(B.RANN) == 3


def test_certificates_are_announced_once_they_are_confirmed(place: Place) -> None:
    place.announcer.tick()
    certificates = {place.enroll(name).serial_number for name in "ab"}
    place.announcer.tick()
    place.again().tick()
    assert place.receivers.kinds() == [B.CANN, B.CANN]
    assert {each.certificate.serial_number for each in place.receivers.heard[ONE]} == certificates


def test_a_new_key_is_announced_to_who_holds_the_old_root(place: Place) -> None:
    place.announcer.tick()
    place.responder.close()
    roll_over(place.directory, days=100)
    place.responder = open_responder(place.directory)
    place.announcer.tick()
    place.again().tick()
    (told,) = [each for each in place.receivers.heard[ONE] if each.kind is B.CKUANN]
    update = told.root_update(place.root)
    assert update.new_with_new == x509.load_der_x509_certificate(place.ca.certificate)
    assert update.old_with_new is not None


def test_a_receiver_that_does_not_answer_is_tried_again_and_gets_all_in_their_order(place: Place) -> None:
    place.announcer.tick()
    place.receivers.failing[OTHER] = TransportError("down")
    for name in ("a", "b"):
        place.ca.change_status(place.enroll(name).serial_number, RevocationReason.SUPERSEDED)
        place.announcer.tick()
        place.clock.now += 1
    tried = place.receivers.tried.count(OTHER)
    assert tried == 1  # the first of them; it is not pressed further
    place.again().tick()
    assert place.receivers.tried.count(OTHER) == tried
    place.clock.now += 10
    place.again().tick()
    assert place.receivers.tried.count(OTHER) == tried + 1
    del place.receivers.failing[OTHER]
    place.clock.now += 19
    place.again().tick()
    assert place.receivers.tried.count(OTHER) == tried + 1
    place.clock.now += 2
    place.again().tick()
    bodies = {url: [each.message.body_der for each in place.receivers.heard[url]] for url in (ONE, OTHER)}
    assert bodies[ONE] == bodies[OTHER]
    ids = {url: [each.message.transaction_id for each in place.receivers.heard[url]] for url in (ONE, OTHER)}
    assert ids[ONE] == ids[OTHER]
    assert place.left() == 0


@pytest.mark.parametrize(("status", "left"), [(403, 0), (404, 0), (429, 1), (503, 1)])
def test_what_a_receiver_refuses_is_dropped_and_what_it_cannot_take_now_is_not(
    place: Place, status: int, left: int
) -> None:
    place.announcer.tick()
    place.receivers.failing[OTHER] = TransportError("no", http_status=status)
    place.enroll()
    place.announcer.tick()
    assert place.left() == left
    assert place.receivers.kinds() == [B.CANN]


def test_a_receiver_is_given_up_at_last(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.announcer.tick()
    place.receivers.failing[OTHER] = TransportError("down")
    place.enroll()
    place.announcer.tick()
    assert place.left() == 1
    place.clock.now += 8 * 86400
    place.announcer.tick()
    assert place.left() == 0
    assert "did not reach http://other.example/" in caplog.text


def test_who_is_killed_after_writing_a_notice_announces_it(place: Place) -> None:
    place.announcer.tick()
    before = (place.directory / "announcements" / "state.json").read_bytes()
    place.receivers.failing = {ONE: TransportError("down"), OTHER: TransportError("down")}
    place.enroll()
    place.announcer.tick()
    # Killed before the state was written: the notice is there, and comes twice rather than never.
    (place.directory / "announcements" / "state.json").write_bytes(before)
    place.receivers.failing = {}
    place.clock.now += 60
    place.again().tick()
    assert place.receivers.kinds() == [B.CANN, B.CANN]


def test_kinds_that_are_not_asked_for_are_not_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "ca", monkeypatch, kinds=("crlann",))
    place.announcer.tick()
    place.ca.change_status(place.enroll().serial_number, RevocationReason.SUPERSEDED)
    place.announcer.tick()
    assert place.receivers.kinds() == [B.CRLANN]
    place.responder.close()


def test_a_process_at_a_time_works_on_the_directory(place: Place) -> None:
    place.announcer.tick()
    place.enroll()
    with place.announcer._claimed() as ours:
        assert ours
        place.again().tick()
    assert place.receivers.tried == []
    state = json.loads((place.directory / "announcements" / "state.json").read_bytes())
    assert state["generation"] == 0


def test_nothing_is_kept_where_nobody_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "ca", monkeypatch, receivers=())
    place.announcer.start()
    assert not (place.directory / "announcements").exists()
    place.responder.close()


@pytest.mark.parametrize("values", [{"receivers": ("gopher://x",)}, {"receivers": ("host",)}, {"retry_seconds": 0.0}])
def test_settings_that_cannot_be_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"receivers|retry_seconds|has|is"):
        AnnounceSettings(**values)
