"""Relay: messages passed on as they are, with added protection, or in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from opensslcmp.asn1 import admit
from opensslcmp.client.async_session import AsyncSession
from opensslcmp.client.context import Context
from opensslcmp.client.nested import make_batch, take_apart
from opensslcmp.client.pending import Pending as ClientPending
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import Trust
from opensslcmp.context.protection import protector_for
from opensslcmp.credentials import SharedSecret
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, Rejected, TransportError
from opensslcmp.server.authority import CertificateRequest, Pending
from opensslcmp.server.inventory import Grant
from opensslcmp.server.relay import Relay
from opensslcmp.server.throttle import Later
from opensslcmp.server.upstream import Upstream
from tests.server.device import KEYS, crmf, mac_device, name
from tests.server.ra_world import RAWorld, ra_world

DEVICE = KEYS[1]


class Only:
    """An inventory of one device."""

    def __init__(self, decision: Grant | Pending = Grant()) -> None:  # noqa: B008 -- immutable
        self.decision = decision

    def decide(self, request: CertificateRequest) -> Grant | Pending:
        if request.subject != name("CN=device"):
            raise Rejected(FailureInfo.NOT_AUTHORIZED, "no such device")
        return self.decision


def relay(world: RAWorld, mode: Any, transport: Any = None, **options: Any) -> Relay:
    world.upstream.ca.add_secret("entity", "shared with the CA")
    root = world.upstream.ca.certificate
    context = Context(credential=world.signer, trusted=[root])
    if mode != "forward":
        options = {"secrets": world.upstream.ca.secrets.find, "trust": Trust([root])} | options
    return Relay(Upstream(context, transport or world.line), world.signer, mode=mode, clock=world.clock, **options)


def entity(world: RAWorld, handle: Callable[[bytes], bytes]) -> Session:
    secret = SharedSecret("entity", b"shared with the CA")
    return Session(Context(credential=secret, trusted=[world.upstream.ca.certificate]), handle)


def test_what_is_forwarded_arrives_as_it_left_in_both_directions() -> None:
    world = ra_world()
    made = relay(world, "forward")
    seen: list[bytes] = []

    def handle(request: bytes) -> bytes:
        seen.append(request)
        return made.handle(request)

    issued = entity(world, handle).enroll("CN=device", DEVICE)
    assert world.state(issued.certificate) == "VALID"
    assert world.line.sent == seen


def test_added_protection_surrounds_each_message_of_a_transaction() -> None:
    world = ra_world()
    issued = entity(world, relay(world, "nest", inventory=Only()).handle).enroll("CN=device", DEVICE)
    assert world.state(issued.certificate) == "VALID"
    messages = [admit(each) for each in world.line.sent]
    assert [each.body_type for each in messages] == [BodyType.NESTED, BodyType.NESTED]
    assert [each.nested()[0].body_type for each in messages] == [BodyType.IR, BodyType.CERT_CONF]
    assert {each.transaction_id for each in messages} == {messages[0].nested()[0].transaction_id}


@pytest.mark.parametrize(
    ("decision", "failure"),
    [(Pending(), "systemUnavail"), (Grant(subject=name("CN=other")), "badCertTemplate")],
)
def test_what_an_inventory_cannot_say_without_a_transaction_is_a_refusal(
    decision: Grant | Pending, failure: str
) -> None:
    world = ra_world()
    with pytest.raises(Rejected, match=failure):
        entity(world, relay(world, "nest", inventory=Only(decision)).handle).enroll("CN=device", DEVICE)
    assert world.line.sent == []


def test_a_stranger_does_not_get_through() -> None:
    world = ra_world()
    made = relay(world, "nest", inventory=Only())
    with pytest.raises(Rejected, match="no such device"):
        entity(world, made.handle).enroll("CN=stranger", DEVICE)
    wrong = mac_device(made.handle, world.clock, "entity", "guessed")
    assert wrong.ask(BodyType.IR, crmf(DEVICE)).body_type is BodyType.ERROR
    assert wrong.ask(BodyType.IR, crmf(DEVICE), protected=False).body_type is BodyType.ERROR
    assert admit(made.handle(b"nonsense")).body_type is BodyType.ERROR
    assert world.line.sent == []


@pytest.mark.parametrize("mode", ["forward", "nest"])
def test_an_entity_may_send_the_same_bytes_again_after_silence(mode: str) -> None:
    world = ra_world()
    made = relay(world, mode)
    issued_before = len(list(world.upstream.store.every_certificate()))
    failures = [TransportError("silence")]

    def losing(_: bytes) -> None:
        if failures:
            raise failures.pop()

    world.line.after = losing

    def handle(request: bytes) -> bytes:
        answer = made.handle(request)
        if isinstance(answer, Later):
            assert admit(answer).content().pki_status_info.failures == (FailureInfo.SYSTEM_UNAVAIL,)
            assert answer.retry_after_seconds == 5
            return handle(request)
        return answer

    issued = entity(world, handle).enroll("CN=device", DEVICE)
    assert world.state(issued.certificate) == "VALID"
    assert len(list(world.upstream.store.every_certificate())) == issued_before + 1


def test_the_next_server_is_asked_when_one_cannot_be_reached() -> None:
    world = ra_world()

    def down(_: bytes) -> bytes:
        raise TransportError("no connection", sent=False)

    made = relay(world, "forward", transport=[down, world.line])
    issued = entity(world, made.handle).enroll("CN=device", DEVICE)
    assert world.state(issued.certificate) == "VALID"


def test_who_waits_is_polling_the_ca_through_the_ra() -> None:
    asked: list[bytes] = []

    class Once:
        def __init__(self, ca: Any) -> None:
            self._ca = ca

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self._ca, attribute)

        def issue(self, request: CertificateRequest) -> Any:
            asked.append(request.transaction_id)
            return Pending(check_after_seconds=1) if len(asked) == 1 else self._ca.issue(request)

    world = ra_world(authority=Once)
    session = entity(world, relay(world, "nest").handle)
    pending = session.enroll("CN=device", DEVICE, wait=False)
    assert isinstance(pending, ClientPending)
    issued = session.resume(pending, DEVICE)
    assert world.state(issued.certificate) == "VALID"  # type: ignore[union-attr]


# -- batches ---------------------------------------------------------------------------------------------------------


def enroll_together(world: RAWorld, made: Relay, number: int) -> list[Any]:
    async def one(each: int) -> Any:
        secret = SharedSecret("entity", b"shared with the CA")
        context = Context(credential=secret, trusted=[world.upstream.ca.certificate])
        return await AsyncSession(context, made.handle_async).enroll(f"CN=device-{each}", DEVICE)

    async def every() -> list[Any]:
        return await asyncio.gather(*(one(each) for each in range(number)), return_exceptions=True)

    return asyncio.run(every())


@pytest.mark.parametrize("most", [2, 16])
def test_what_comes_within_a_short_time_goes_up_in_one_message(most: int) -> None:
    world = ra_world()
    made = relay(world, "batch", batch_seconds=0.2, batch_messages=most)
    found = enroll_together(world, made, 4)
    assert {world.state(each.certificate) for each in found} == {"VALID"}
    sizes = [len(admit(each).nested()) for each in world.line.sent]
    assert sum(sizes) == 8
    assert max(sizes) == min(most, 4)


def test_a_batch_without_a_believable_answer_is_system_unavail_for_each() -> None:
    world = ra_world()
    made = relay(world, "batch", transport=lambda request: request)
    for each in enroll_together(world, made, 2):
        assert isinstance(each, Rejected)
        assert each.failure is FailureInfo.SYSTEM_UNAVAIL


def test_a_batch_that_is_refused_is_refused_for_each() -> None:
    world = ra_world()
    world.line.handle = world.upstream.again(registration_authorities=()).handle
    for each in enroll_together(world, relay(world, "batch"), 2):
        assert isinstance(each, Rejected)


def test_batches_need_the_event_loop() -> None:
    world = ra_world()
    with pytest.raises(Rejected, match="systemFailure"):
        entity(world, relay(world, "batch").handle).enroll("CN=device", DEVICE)


def test_answers_that_are_not_to_this_batch_are_not_taken_apart() -> None:
    world = ra_world()
    protector = protector_for(world.signer)
    device = mac_device(world.line.handle, world.clock, "entity", "x")
    one = admit(device.build(BodyType.IR, [crmf(DEVICE)]))
    device.begin()
    other = admit(device.build(BodyType.IR, [crmf(DEVICE)]))
    batch = admit(make_batch([one, other], protector, world.clock()))
    with pytest.raises(BadMessage, match="none to this batch"):
        take_apart(batch, admit(make_batch([one], protector, world.clock())))
    with pytest.raises(BadMessage, match="another nonce"):
        take_apart(batch, batch)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "other"}, "mode is"),
        ({"mode": "nest"}, "secrets or trust"),
        ({"mode": "forward", "inventory": Only()}, "not verified"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    world = ra_world()
    upstream = Upstream(Context(credential=world.signer), world.line)
    with pytest.raises(ValueError, match=words):
        Relay(upstream, world.signer, **options)
