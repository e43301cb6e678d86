"""``Responder.handle``: whatever comes is answered, never by systemFailure, nothing is logged as an error, and nothing is issued
to who may not have it."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import random
from collections.abc import Iterator
from typing import Any

from opensslcmp.asn1 import Limits, Message, admit, make_header, wrap
from opensslcmp.context.certificates import Trust
from opensslcmp.context.protection import protect, protector_for
from opensslcmp.credentials import Signer
from opensslcmp.enums import BodyType, FailureInfo
from tests.fuzz.asn1_targets import MESSAGES
from tests.fuzz.engine import Target
from tests.server.device import IMPLICIT, KEYS, Device, conf, crmf, status_of
from tests.server.test_mutations import FOLLOWING, contents
from tests.server.world import World, fresh_world, other_ca

ANY_ID = Limits(min_id_bytes=0)


class Complaints(logging.Handler):
    """What is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def check(self) -> None:
        """Raise what was logged."""
        if self.records:
            records, self.records = self.records, []
            error = records[0].exc_info[1] if records[0].exc_info else None
            raise error or AssertionError(records[0].getMessage())


@contextlib.contextmanager
def complaints() -> Iterator[Complaints]:
    """Listens to the log of the package while it lasts."""
    listening = Complaints()
    log = logging.getLogger("opensslcmp")
    log.addHandler(listening)
    level, propagate = log.level, log.propagate
    log.setLevel(logging.ERROR)
    log.propagate = False
    try:
        yield listening
    finally:
        log.removeHandler(listening)
        log.setLevel(level)
        log.propagate = propagate


class Kept:
    """The state of a store, to be put back."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.values = {at: copy.copy(value) for at, value in vars(store).items() if isinstance(value, (dict, int))}

    def restore(self) -> None:
        for at, value in self.values.items():
            setattr(self.store, at, copy.copy(value))


def world_of_two() -> tuple[World, Device, Device, bytes]:
    """A world that cross-certifies, a device with a secret, the same with its certificate."""
    world = fresh_world(cross_certification=Trust([other_ca()[0]]))
    device = world.device()
    certificate = device.enroll(KEYS[0])
    return world, device, device.signing(certificate, KEYS[0]), certificate


def checked(answer: bytes) -> Message:
    """An answer, which is not systemFailure."""
    message = admit(answer, limits=ANY_ID)
    if message.body_type is BodyType.ERROR:
        assert FailureInfo.SYSTEM_FAILURE not in status_of(message).failures
    return message


@contextlib.contextmanager
def strangers() -> Iterator[Target]:
    """Messages whose protection is not right any more: nothing is issued, confirmed or revoked."""
    world, device, signing, certificate = world_of_two()
    seeds = []
    for kind, body in contents(world, certificate):
        for sender in (device, signing):
            sender.begin()
            header = make_header(
                sender=sender.credential.sender_name,
                recipient=b"0\0",
                transaction_id=sender.transaction_id,
                sender_nonce=os.urandom(16),
                recip_nonce=os.urandom(16) if kind in FOLLOWING else None,
                general_info=[IMPLICIT],
            )
            seeds.append(protect(header, kind, body, sender.credential))
    good = set(seeds)
    kept = Kept(world.store)
    before = world.store.certificates()

    with complaints() as listening:

        def run(_: random.Random, data: bytes) -> None:
            checked(world.responder.handle(data))
            listening.check()
            if data not in good and world.store.certificates() != before:
                # What the protection does not cover, extraCerts, may be otherwise.
                assert admit(data).protected_part in {admit(each).protected_part for each in good}
            kept.restore()

        yield Target(name="responder", seeds=[*seeds, *MESSAGES], run=run)


@contextlib.contextmanager
def requests() -> Iterator[Target]:
    """Bodies that are nearly right, each under a protection that is; alone, as follow-ups, nested once and twice."""
    world, device, signing, certificate = world_of_two()
    ca, key = other_ca()
    abroad = Device(device.handle, protector_for(Signer(ca, key)), device.clock)
    seeds = [bytes([kind]) + body for kind, body in contents(world, certificate)]
    kept = Kept(world.store)

    with complaints() as listening:

        def run(chance: random.Random, data: bytes) -> None:
            if not data:
                return
            kind = BodyType(data[0] % 27)
            sender = chance.choice((device, signing, abroad) if kind is BodyType.CCR else (device, signing))
            sender.begin()
            if kind in FOLLOWING:
                sender.ask(BodyType.IR, crmf(KEYS[1]))
            request = _protected(chance, sender, kind, data[1:])
            for _ in range(chance.choice((0, 0, 0, 1, 1, 2))):
                sender.begin()
                request = _protected(chance, sender, BodyType.NESTED, wrap(0x30, request * chance.choice((1, 1, 2, 3))))
            answer = checked(world.responder.handle(request))
            listening.check()
            if answer.body_type in {BodyType.IP, BodyType.CP, BodyType.KUP}:
                _confirm(chance, sender, answer)
                listening.check()
            kept.restore()

        yield Target(name="requests", seeds=seeds, run=run)


def _protected(chance: random.Random, sender: Device, kind: BodyType, body: bytes) -> bytes:
    header = make_header(
        pvno=chance.choice((2, 2, 2, 3)),
        sender=sender.credential.sender_name,
        recipient=b"0\0",
        transaction_id=sender.transaction_id,
        sender_nonce=os.urandom(16),
        recip_nonce=sender.recip_nonce,
        general_info=[IMPLICIT] if chance.random() < 0.3 else [],
    )
    return protect(header, kind, body, sender.credential)


def _confirm(chance: random.Random, sender: Device, answer: Message) -> None:
    """What follows an answer that may hold certificates; whatever the device makes of it, it is answered."""
    sender.transaction_id, sender.recip_nonce = answer.transaction_id or b"", answer.sender_nonce
    certificates = [each.certificate for each in answer.content().response if each.certificate is not None]
    if certificates:
        sender.send(BodyType.CERT_CONF, [conf(chance.choice(certificates))])
