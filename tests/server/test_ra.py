"""RA: an entity that the RA knows gets certificates of a CA that knows the RA."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.asn1 import admit, decode_info, oids
from opensslcmp.client.async_session import AsyncSession
from opensslcmp.client.context import Context
from opensslcmp.client.pending import Pending as ClientPending
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.credentials import Signer
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import Rejected, TimedOut, TransportError
from opensslcmp.server.authority import CertificateRequest, Issued, Pending
from opensslcmp.server.inventory import Grant
from opensslcmp.server.memory import MemoryStore
from opensslcmp.server.ra import RA
from opensslcmp.server.responder import Responder
from opensslcmp.server.sqlstore import SQLStore
from tests.server.device import IMPLICIT, KEYS, crmf, csr, mac_device, name, said
from tests.server.ra_world import SECRET, RAWorld, ra_world, secret_of

DEVICE = KEYS[1]


class Killed(BaseException):
    """The RA dies here."""


class Waiting:
    """A CA where each request waits until ``decided``."""

    def __init__(self, ca: Any) -> None:
        self._ca = ca
        self.decided = False
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ca, name)

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        self.asked += 1
        return self._ca.issue(request) if self.decided else Pending(check_after_seconds=100)


class Listed:
    """An inventory of one device, which is granted something of its own."""

    def __init__(self, grant: Grant = Grant()) -> None:  # noqa: B008 -- immutable
        self.grant = grant

    def decide(self, request: CertificateRequest) -> Grant:
        if request.subject != name("CN=device"):
            raise Rejected(FailureInfo.NOT_AUTHORIZED, "no such device")
        return self.grant


def bodies(world: RAWorld) -> list[BodyType]:
    return [admit(each).body_type for each in world.line.sent]


def test_an_entity_gets_a_certificate_of_the_ca_and_its_confirmation_reaches_the_ca() -> None:
    world = ra_world()
    seen: list[str] = []
    issued = world.session().enroll(
        "CN=device", DEVICE, confirm=lambda found: seen.append(world.state(found.certificate))
    )
    assert issued.certificate.issuer == x509.Name.from_rfc4514_string("CN=Test CA")
    assert seen == ["UNCONFIRMED"]
    assert world.state(issued.certificate) == "VALID"
    assert bodies(world) == [BodyType.IR, BodyType.CERT_CONF]
    assert [each.subject.rfc4514_string() for each in issued.chain] == ["CN=Test CA"]


def test_the_proof_of_possession_of_the_entity_goes_up_as_it_is() -> None:
    world = ra_world()
    world.session().enroll("CN=device", DEVICE)
    (request,) = admit(world.line.sent[0]).content()
    assert request.popo.tag == "signature"


@pytest.mark.parametrize("options", [{"ra_verified": "always"}, {"inventory": Listed(Grant(subject=name("CN=other")))}])
def test_a_changed_request_goes_up_as_ra_verified_with_the_original_message(options: dict[str, Any]) -> None:
    world = ra_world(**options)
    issued = world.session().enroll("CN=device", DEVICE)
    message = admit(world.line.sent[0])
    (request,) = message.content()
    assert request.popo.tag == "raVerified"
    (original,) = [each for each in message.header.general_info or () if each.oid == oids.IT_ORIG_PKI_MESSAGE]
    (inner,) = decode_info(original)
    assert admit(inner).header.sender_kid == SECRET.reference
    changed = "inventory" in options
    assert issued.certificate.subject.rfc4514_string() == ("CN=other" if changed else "CN=device")
    assert issued.status is (PKIStatus.GRANTED_WITH_MODS if changed else PKIStatus.ACCEPTED)


def test_a_pkcs10_request_goes_up_unchanged() -> None:
    world = ra_world()
    request = csr(DEVICE)
    issued = world.session().enroll_csr(request)
    assert admit(world.line.sent[0]).body_der == request
    assert world.state(issued.certificate) == "VALID"


def test_what_is_not_in_the_inventory_never_reaches_the_ca() -> None:
    world = ra_world(inventory=Listed())
    with pytest.raises(Rejected, match="no such device"):
        world.session().enroll("CN=stranger", DEVICE)
    assert world.line.sent == []


def test_what_was_asked_upstream_is_found_again_for_the_same_key_only() -> None:
    """The transaction is forgotten after a day, what was asked upstream after eight."""
    world = ra_world(inventory=Listed(Grant()))
    device = mac_device(world.responder.handle, world.clock, SECRET.reference.decode(), SECRET.secret.decode())
    device.transaction_id = b"1" * 16
    first = device.send(BodyType.IR, [crmf(KEYS[1])], general_info=[IMPLICIT])
    assert said(first) == (BodyType.IP, None)
    world.clock.now += 2 * 86400
    world.responder.sweep()
    device.begin()
    device.transaction_id = b"1" * 16
    answer = device.send(BodyType.IR, [crmf(KEYS[2], "CN=stranger")], general_info=[IMPLICIT])
    assert said(answer) == (BodyType.IP, FailureInfo.NOT_AUTHORIZED)


def test_the_refusal_of_the_ca_reaches_the_entity() -> None:
    class No:
        def __init__(self, ca: Any) -> None:
            self.certificate = ca.certificate

        def issue(self, request: CertificateRequest) -> Issued:
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "not this name")

    with pytest.raises(Rejected, match="badCertTemplate: not this name"):
        ra_world(authority=No).session().enroll("CN=device", DEVICE)


def test_what_the_ca_has_against_the_ra_is_no_concern_of_the_entity() -> None:
    world = ra_world()
    world.line.handle = world.upstream.again(trust=None, secrets=None).handle
    with pytest.raises(Rejected, match="systemFailure"):
        world.session().enroll("CN=device", DEVICE)


def test_an_update_keeps_its_subject() -> None:
    world = ra_world()
    first = world.session().enroll("CN=device", DEVICE)
    signer = Signer(first.certificate, DEVICE, first.chain)
    second = world.session(credential=signer).update(key=KEYS[2])
    assert second.certificate.subject == first.certificate.subject
    assert second.certificate.serial_number != first.certificate.serial_number


def test_a_holder_revokes_its_certificate_through_the_ra() -> None:
    world = ra_world()
    issued = world.session().enroll("CN=device", DEVICE)
    signer = Signer(issued.certificate, DEVICE, issued.chain)
    world.session(credential=signer).revoke(reason=RevocationReason.KEY_COMPROMISE)
    assert world.state(issued.certificate) == "REVOKED"


def test_a_certificate_that_the_entity_refuses_is_refused_at_the_ca() -> None:
    world = ra_world()
    found: list[x509.Certificate] = []

    def refuse(issued: Any) -> None:
        found.append(issued.certificate)
        raise Rejected(FailureInfo.INCORRECT_DATA, "not mine")

    with pytest.raises(Rejected, match="not mine"):
        world.session().enroll("CN=device", DEVICE, confirm=refuse)
    assert world.state(found[0]) == "REVOKED"
    assert bodies(world) == [BodyType.IR, BodyType.CERT_CONF]


def test_a_certificate_that_nobody_confirms_is_refused_at_the_ca() -> None:
    world = ra_world(confirm_wait_seconds=60)
    device = mac_device(world.responder.handle, world.clock, "device", SECRET.secret.decode())
    answer = device.ask(BodyType.IR, crmf(DEVICE))
    certificate = x509.load_der_x509_certificate(answer.content().response[0].certificate)
    world.clock.now += 61
    world.responder.sweep()
    assert world.state(certificate) == "REVOKED"


def test_what_was_confirmed_upstream_already_is_revoked_when_the_entity_refuses_it() -> None:
    world = ra_world(certconf="own")
    found: list[x509.Certificate] = []

    def refuse(issued: Any) -> None:
        assert world.state(issued.certificate) == "VALID"
        found.append(issued.certificate)
        raise Rejected(FailureInfo.INCORRECT_DATA, "not mine")

    with pytest.raises(Rejected, match="not mine"):
        world.session().enroll("CN=device", DEVICE, confirm=refuse)
    assert bodies(world) == [BodyType.IR, BodyType.CERT_CONF, BodyType.RR]
    assert world.state(found[0]) == "REVOKED"


def test_implicit_confirmation_downstream_is_confirmed_upstream_at_once() -> None:
    world = ra_world()
    issued = world.session().enroll("CN=device", DEVICE, implicit_confirm=True)
    assert issued.implicitly_confirmed
    assert world.state(issued.certificate) == "VALID"


# -- waiting ---------------------------------------------------------------------------------------------------------


def waiting_world(**options: Any) -> tuple[RAWorld, Waiting]:
    authorities: list[Waiting] = []

    def made(ca: Any) -> Waiting:
        authorities.append(Waiting(ca))
        return authorities[0]

    world = ra_world(authority=made, **options)
    return world, authorities[0]


def test_waiting_upstream_is_waiting_downstream_each_by_its_own_clock() -> None:
    world, ca = waiting_world(check_after_seconds=7)
    session = world.session()
    pending = session.enroll("CN=device", DEVICE, wait=False)
    assert isinstance(pending, ClientPending)
    world.clock.now += 7
    again = session.resume(pending, DEVICE, wait=False)
    assert isinstance(again, ClientPending)
    assert again.check_after_seconds == 7
    world.clock.now += 7
    again = session.resume(again, DEVICE, wait=False)
    assert isinstance(again, ClientPending)
    polls = bodies(world).count(BodyType.POLL_REQ)
    world.clock.now += 100
    ca.decided = True
    issued = session.resume(again, DEVICE)
    assert world.state(issued.certificate) == "VALID"  # type: ignore[union-attr]
    assert polls == 1


def test_another_worker_takes_up_what_waits(tmp_path: Path) -> None:
    store = SQLStore(tmp_path / "ra.db")
    world, ca = waiting_world(store=store)
    pending = world.session().enroll("CN=device", DEVICE, wait=False)
    assert isinstance(pending, ClientPending)
    store.close()
    again = SQLStore(tmp_path / "ra.db")
    worker = world.make(again)
    ca.decided = True
    world.clock.now += 101
    issued = world.session(worker.handle).resume(ClientPending.load(pending.save()), DEVICE)
    assert world.state(issued.certificate) == "VALID"  # type: ignore[union-attr]
    assert bodies(world)[0] is BodyType.IR
    assert bodies(world).count(BodyType.IR) == 1
    again.close()


# -- what goes wrong -------------------------------------------------------------------------------------------------


def fail(error: Exception | BaseException) -> Any:
    def failing(_: bytes) -> None:
        raise error

    return failing


def test_a_ca_that_cannot_be_reached_is_system_unavail() -> None:
    world = ra_world()
    world.line.before = fail(TransportError("no connection", sent=False))
    with pytest.raises(Rejected, match="systemUnavail"):
        world.session().enroll("CN=device", DEVICE)


@pytest.mark.parametrize("place", ["before", "after"])
def test_after_silence_the_same_bytes_are_sent_again_and_there_is_one_certificate(place: str) -> None:
    world = ra_world()
    issued_before = len(list(world.upstream.store.every_certificate()))
    failures = [TimedOut("no answer"), TimedOut("no answer")]

    def losing(_: bytes) -> None:
        if failures:
            raise failures.pop()

    setattr(world.line, place, losing)
    issued = world.session().enroll("CN=device", DEVICE)
    assert world.state(issued.certificate) == "VALID"
    assert len(list(world.upstream.store.every_certificate())) == issued_before + 1
    assert world.line.sent[0] == world.line.sent[1] == world.line.sent[2]


def test_a_request_that_the_ca_may_have_forgotten_is_not_sent_again() -> None:
    world = ra_world()
    world.line.before = fail(TimedOut("no answer"))
    pending = world.session().enroll("CN=device", DEVICE, wait=False)
    assert isinstance(pending, ClientPending)
    world.line.before = None
    worker = world.make(context={"max_resend_seconds": 1e-9})
    assert isinstance(world.session(worker.handle).resume(pending, DEVICE, wait=False), ClientPending)
    assert len(world.line.sent) == 1


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("message", range(2))
def test_an_ra_that_is_killed_asks_once_only(place: str, message: int, tmp_path: Path) -> None:
    world = ra_world(store=SQLStore(tmp_path / "ra.db"))
    issued_before = len(list(world.upstream.store.every_certificate()))
    seen = 0

    def dying(_: bytes) -> None:
        nonlocal seen
        seen += 1
        if seen == message + 1:
            raise Killed

    setattr(world.line, place, dying)
    handler = world.responder

    def handle(request: bytes) -> bytes:
        nonlocal handler
        try:
            return handler.handle(request)
        except Killed:
            world.store.close()
            handler = world.make(SQLStore(tmp_path / "ra.db"))
            return handler.handle(request)  # the entity hears nothing, and sends its message again

    issued = world.session(handle).enroll("CN=device", DEVICE)
    assert world.state(issued.certificate) == "VALID"
    assert len(list(world.upstream.store.every_certificate())) == issued_before + 1
    assert len(world.line.sent) == 3
    assert len(set(world.line.sent)) == 2
    handler.close()


# -- information -----------------------------------------------------------------------------------------------------


def test_a_genm_is_answered_from_the_cache_while_it_is_fresh() -> None:
    world = ra_world(cache_seconds=60, max_cached=1)
    session = world.session()
    first = session.request_info(oids.IT_CA_CERTS)
    assert session.request_info(oids.IT_CA_CERTS) == first
    assert len(world.line.sent) == 1
    session.request_info(oids.IT_SIGN_KEY_PAIR_TYPES)
    session.request_info(oids.IT_CA_CERTS)
    assert len(world.line.sent) == 3
    world.clock.now += 61
    session.request_info(oids.IT_CA_CERTS)
    assert len(world.line.sent) == 4


def test_without_a_cache_each_genm_is_forwarded() -> None:
    world = ra_world(cache_seconds=0)
    session = world.session()
    for _ in range(2):
        (info,) = session.request_info(oids.IT_CA_CERTS)
        assert info.value
    assert len(world.line.sent) == 2


# -- asyncio, chains -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["asynchronous", "in threads"])
def test_under_handle_async_the_ra_waits_without_a_thread_or_in_one(way: str) -> None:
    world = ra_world()
    together = 0
    most = 0

    async def upstream(request: bytes) -> bytes:
        nonlocal together, most
        together += 1
        most = max(most, together)
        for _ in range(20):
            await asyncio.sleep(0)
        answer = world.line(request)
        together -= 1
        return answer

    options: dict[str, Any] = {"async_transport": upstream} if way == "asynchronous" else {}
    responder = world.make(**options)

    async def enroll(number: int) -> x509.Certificate:
        context = Context(credential=SECRET, trusted=[world.upstream.ca.certificate])
        session = AsyncSession(context, responder.handle_async)
        return (await session.enroll(f"CN=device-{number}", DEVICE)).certificate

    async def every() -> list[x509.Certificate]:
        return await asyncio.gather(*(enroll(number) for number in range(5)))

    issued = asyncio.run(every())
    assert {world.state(each) for each in issued} == {"VALID"}
    assert most > 1 or way == "in threads"


def test_an_ra_may_stand_before_another_ra() -> None:
    world = ra_world()
    near_store = MemoryStore()
    near = world.session().enroll("CN=Near RA", KEYS[2])
    der = near.certificate.public_bytes(Encoding.DER)
    signer = Signer(der, KEYS[2], near.chain)
    root = world.upstream.ca.certificate
    far = world.make(ra_verified="always")
    far._ras = frozenset([facts(der).fingerprint])
    authority = RA(Context(credential=signer, trusted=[root]), near_store, transport=far.handle, clock=world.clock)
    responder = Responder(authority, near_store, signer, secrets=secret_of, trust=Trust([root]), clock=world.clock)
    issued = world.session(responder.handle).enroll("CN=device", DEVICE)
    assert world.state(issued.certificate) == "VALID"
