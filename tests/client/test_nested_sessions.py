"""An RA's sessions: protection added to each message, and messages of several put into one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from opensslcmp import AsyncSession, Context, Issued, Order, Rejected, Session, SharedSecret, Signer
from opensslcmp.asn1 import admit
from opensslcmp.client.nested import AsyncBatchTransport, AsyncNestingTransport, BatchTransport, NestingTransport
from opensslcmp.context.certificates import facts
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import TimedOut, TransportError
from tests.server.device import KEYS
from tests.server.world import World, fresh_world

SECRET = SharedSecret("device-17", b"open sesame")


class Wire:
    """The way to a CA that knows the RA and the device's secret."""

    def __init__(self, listed: bool = True) -> None:
        self.world: World = fresh_world()
        self.world.ca.add_secret("ra", "secret")
        self.world.ca.add_secret(SECRET.reference, SECRET.secret)
        first = Session(Context(credential=SharedSecret("ra", b"secret")), self.world.responder.handle)
        issued = first.enroll("CN=RA", KEYS[0])
        listing = [facts(_der(issued)).fingerprint] if listed else []
        self.responder = self.world.again(registration_authorities=listing)
        signer = Signer(issued.certificate, KEYS[0], issued.chain)
        self.context = Context(credential=signer, trusted=self.world.ca.certificate)
        self.sent: list[bytes] = []
        self.change: Callable[[bytes], bytes] = bytes

    def __call__(self, request: bytes) -> bytes:
        self.sent.append(request)
        return self.change(self.responder.handle(request))

    async def asynchronously(self, request: bytes) -> bytes:
        return self(request)

    def sizes(self) -> list[int]:
        return [len(admit(each).nested()) for each in self.sent]


def _der(issued: Issued) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return issued.certificate.public_bytes(Encoding.DER)


def device(transport: Any, kind: Any = Session) -> Any:
    return kind(Context(credential=SECRET), transport)


def test_protection_is_added_to_each_message() -> None:
    wire = Wire()
    issued = device(NestingTransport(wire, wire.context)).enroll("CN=device-17", generate="ec:P-256")
    assert isinstance(issued, Issued)
    assert wire.sizes() == [1, 1]
    assert admit(wire.sent[0]).transaction_id == issued.transaction_id


def test_protection_is_added_on_an_event_loop() -> None:
    wire = Wire()

    async def main() -> Issued:
        transport = AsyncNestingTransport(wire.asynchronously, wire.context)
        found: Issued = await device(transport, AsyncSession).enroll("CN=device-17", generate="ec:P-256")
        return found

    assert isinstance(anyio.run(main), Issued)
    assert wire.sizes() == [1, 1]


def test_messages_of_several_threads_go_into_batches() -> None:
    wire = Wire()
    session = device(BatchTransport(wire, wire.context, batch_seconds=5, batch_messages=4))
    orders = [Order(subject=f"CN=device-{number}", generate="ec:P-256") for number in range(8)]
    outcomes = list(session.enroll_many(orders, concurrency=8))
    assert [each.error for each in outcomes] == [None] * 8
    assert {each.certificate.subject.rfc4514_string() for each in outcomes if each.certificate} == {
        f"CN=device-{number}" for number in range(8)
    }
    assert wire.sizes() == [4, 4, 4, 4]


def test_messages_of_several_tasks_go_into_batches() -> None:
    wire = Wire()

    async def main() -> list[Any]:
        transport = AsyncBatchTransport(wire.asynchronously, wire.context, batch_seconds=5, batch_messages=4)
        session = device(transport, AsyncSession)
        orders = [Order(subject=f"CN=device-{number}", generate="ec:P-256") for number in range(4)]
        return [each async for each in session.enroll_many(orders, concurrency=4)]

    assert [each.error for each in anyio.run(main)] == [None] * 4
    assert wire.sizes() == [4, 4]


def test_a_message_alone_waits_for_others_and_goes_then() -> None:
    wire = Wire()
    transport = BatchTransport(wire, wire.context, batch_seconds=0.01)
    assert isinstance(device(transport).enroll("CN=device-17", generate="ec:P-256"), Issued)
    assert wire.sizes() == [1, 1]
    assert admit(wire.sent[0]).transaction_id != admit(wire.sent[0]).nested()[0].transaction_id


def test_a_transaction_is_in_a_batch_once() -> None:
    wire = Wire()
    transport = BatchTransport(wire, wire.context, batch_seconds=5, batch_messages=2)
    request: list[bytes] = []

    def catch(der: bytes) -> bytes:
        request.append(der)
        raise TransportError("caught")

    with pytest.raises(TransportError):
        device(catch).enroll("CN=device-17", generate="ec:P-256")
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(transport.send(request[0]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    # The second waits for one more, which comes here.
    other = device(transport).enroll("CN=device-18", generate="ec:P-256", implicit_confirm=True)
    for thread in threads:
        thread.join(20)
    assert isinstance(other, Issued)
    assert answers[0] == answers[1]
    assert sorted(wire.sizes()) == [1, 2]


def test_a_batch_that_is_refused_is_refused_for_all_in_it() -> None:
    wire = Wire(listed=False)
    session = device(BatchTransport(wire, wire.context, batch_seconds=5, batch_messages=2))
    orders = [Order(subject=f"CN=device-{number}", generate="ec:P-256") for number in range(2)]
    errors = [each.error for each in session.enroll_many(orders, concurrency=2)]
    assert [each.failure for each in errors if isinstance(each, Rejected)] == [FailureInfo.NOT_AUTHORIZED] * 2


@pytest.mark.parametrize("answer", [b"nonsense", b""])
def test_an_answer_that_is_none_is_no_answer_for_all_in_it(answer: bytes) -> None:
    wire = Wire()
    wire.change = lambda _: answer
    session = device(BatchTransport(wire, wire.context, batch_seconds=5, batch_messages=2))
    orders = [Order(subject=f"CN=device-{number}", generate="ec:P-256") for number in range(2)]
    errors = [each.error for each in session.enroll_many(orders, concurrency=2)]
    assert [type(each) for each in errors] == [TransportError] * 2


def test_who_waits_for_a_batch_waits_no_longer_than_it_may() -> None:
    wire = Wire()
    going = threading.Event()

    def hold(answer: bytes) -> bytes:
        going.wait(20)
        return answer

    wire.change = hold
    transport = BatchTransport(wire, wire.context, batch_seconds=5, batch_messages=2)
    first = threading.Thread(target=lambda: device(transport).enroll("CN=device-1", generate="ec:P-256"))
    first.start()
    while transport._open is None:
        first.join(0.01)
    other = Session(Context(credential=SECRET, message_timeout_seconds=0.1), transport)
    try:
        with pytest.raises(TimedOut):
            other.enroll("CN=device-2", generate="ec:P-256")
    finally:
        transport._seconds = 0.01
        going.set()
        first.join(20)


def test_who_does_not_sign_nests_nothing() -> None:
    for kind in (NestingTransport, AsyncNestingTransport, BatchTransport, AsyncBatchTransport):
        with pytest.raises(ValueError, match="is signed"):
            kind(lambda request: request, Context(credential=SECRET))
    wire = Wire()
    with pytest.raises(ValueError, match="1 to 100"):
        BatchTransport(wire, wire.context, batch_messages=101)
