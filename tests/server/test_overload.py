"""Who is served first, and who gives way, when more messages come than can be answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from opensslcmp.asn1 import admit
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server import overload
from opensslcmp.server.http_service import Reply
from opensslcmp.server.overload import Intake, Job, peek, unavailable
from opensslcmp.server.peer import Peer
from tests.server.device import KEYS, crmf, said
from tests.server.world import World


class Desk:
    """An intake whose jobs are begun and stay under way until they are ended by hand."""

    def __init__(self, **options: int) -> None:
        self.begun: list[str] = []
        self.refused: list[str] = []
        self.intake = Intake(self._begin, knows=lambda body_type, _: body_type == BodyType.CERT_CONF, **options)

    def _begin(self, job: Job) -> None:
        self.begun.append(self._name(job))

    @staticmethod
    def _name(job: Job) -> str:
        return job.body[-2:].decode()

    def offer(self, address: str, name: str, *, first: bool = False) -> Job:
        """A message whose last two bytes are its name; with ``first`` one that carries on with a transaction."""
        header = b"\x30\x06\xa4\x04\x04\x02id"
        body = (b"\xb8\x02" if first else b"\xa0\x02") + name.encode()
        message = b"\x30" + bytes([len(header + body)]) + header + body
        job = Job(message, Peer(address=address), lambda reply: self._answered(name, reply))
        self.intake.offer(job)
        return job

    def _answered(self, name: str, reply: Reply) -> None:
        assert reply.status == 503
        self.refused.append(name)


def at_a_desk(work: Callable[[Desk], None], **options: int) -> Desk:
    """A desk after ``work``, and after all that could begin has begun."""

    async def main() -> Desk:
        desk = Desk(**options)
        work(desk)
        for _ in range(5):
            await asyncio.sleep(0)
        return desk

    return asyncio.run(main())


def test_addresses_take_turns() -> None:
    def work(desk: Desk) -> None:
        for name in ("a1", "a2", "a3", "a4"):
            desk.offer("192.0.2.1", name)
        for name in ("b1", "b2"):
            desk.offer("192.0.2.2", name)

    assert at_a_desk(work).begun == ["a1", "b1", "a2", "b2", "a3", "a4"]


def test_what_carries_on_with_a_transaction_goes_first() -> None:
    def work(desk: Desk) -> None:
        for name in ("a1", "a2"):
            desk.offer("192.0.2.1", name)
        desk.offer("192.0.2.1", "cc", first=True)

    assert at_a_desk(work).begun == ["cc", "a1", "a2"]


def test_so_many_are_under_way_and_a_quarter_more_that_carry_on() -> None:
    def work(desk: Desk) -> None:
        for number in range(6):
            desk.offer("192.0.2.1", f"a{number}")
            desk.offer("192.0.2.2", f"c{number}", first=True)

    desk = at_a_desk(work, max_under_way=4)
    assert desk.begun == ["c0", "c1", "c2", "c3", "c4"]
    assert (desk.intake.under_way, desk.intake.waiting) == (5, 7)

    async def end_two() -> None:
        desk.intake.finished()
        await asyncio.sleep(0)
        assert desk.begun[5:] == ["c5"]
        desk.intake.finished()
        desk.intake.finished()
        await asyncio.sleep(0)
        assert desk.begun[6:] == ["a0"]

    asyncio.run(end_two())


def test_when_the_queue_is_full_the_address_with_most_in_it_gives_way() -> None:
    def work(desk: Desk) -> None:
        for name in ("a1", "a2", "a3"):
            desk.offer("192.0.2.1", name)
        assert desk.intake.is_full
        desk.offer("192.0.2.2", "b1")
        desk.offer("192.0.2.1", "a4")
        desk.offer("192.0.2.2", "b2")

    desk = at_a_desk(work, max_waiting=3)
    assert desk.refused == ["a3", "a4", "b2"]
    assert desk.begun == ["a1", "b1", "a2"]
    assert desk.intake.refused == 3


def test_what_carries_on_takes_the_place_of_what_does_not_and_never_the_other_way_round() -> None:
    def work(desk: Desk) -> None:
        desk.offer("192.0.2.1", "a1")
        desk.offer("192.0.2.2", "c1", first=True)
        desk.offer("192.0.2.2", "c2", first=True)
        desk.offer("192.0.2.3", "b1")
        desk.offer("192.0.2.3", "c3", first=True)
        desk.offer("192.0.2.2", "c4", first=True)

    desk = at_a_desk(work, max_waiting=2)
    assert desk.refused == ["a1", "b1", "c2", "c4"]
    assert desk.begun == ["c1", "c3"]


def test_a_turn_of_the_loop_is_left_to_others_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "_TURN_SECONDS", -1.0)

    async def main() -> None:
        desk = Desk()
        for number in range(3):
            desk.offer("192.0.2.1", f"a{number}")
        seen = []
        for _ in range(4):
            await asyncio.sleep(0)
            seen.append(len(desk.begun))
        assert seen == [1, 2, 3, 3]

    asyncio.run(main())


def test_what_nobody_waits_for_is_dropped() -> None:
    def work(desk: Desk) -> None:
        desk.offer("192.0.2.1", "a1").gone = True
        desk.offer("192.0.2.1", "a2")

    assert at_a_desk(work).begun == ["a2"]


def test_a_message_is_peeked_at_without_being_checked(world: World) -> None:
    device = world.device()
    device.begin()
    request = device.build(BodyType.IR, [crmf(KEYS[0])])
    assert peek(request) == (BodyType.IR, device.transaction_id, device.sender_nonce)
    for end in range(len(request)):
        peek(request[:end])
    assert peek(b"nonsense") == (None, None, None)


def test_a_refusal_names_what_it_refuses_and_when_to_come_again(world: World) -> None:
    device = world.device()
    device.begin()
    reply = unavailable(device.build(BodyType.IR, [crmf(KEYS[0])]), 5, "busy")
    assert (reply.status, reply.headers) == (503, ((b"retry-after", b"5"),))
    error = admit(reply.body)
    assert said(error) == (BodyType.ERROR, FailureInfo.SYSTEM_UNAVAIL)
    assert (error.transaction_id, error.recip_nonce) == (device.transaction_id, device.sender_nonce)
    assert error.protection is None
    assert unavailable(b"nonsense", 5, "busy").body.startswith(b"0")
