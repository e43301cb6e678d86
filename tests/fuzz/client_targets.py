"""The client and a hostile server: an operation ends with what was asked for or a CMPError, and nothing else is believed."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import Context, Session, SharedSecret, Signer
from opensslcmp.asn1 import Message, admit, make_header, oids
from opensslcmp.client.failover import Retry
from opensslcmp.client.pending import StillWaiting
from opensslcmp.context.certificates import facts
from opensslcmp.context.protection import MacProtector, Protector, protect
from opensslcmp.credentials import MacParameters
from opensslcmp.enums import BodyType
from opensslcmp.errors import CMPError, TimedOut
from tests.fuzz.engine import Target
from tests.fuzz.server_targets import Kept
from tests.server.device import KEYS
from tests.server.world import World, fresh_world

SECRET = SharedSecret("device", "secret", parameters=MacParameters(iterations=1))
OPTIONS: dict[str, Any] = {"retry": Retry(attempts=1), "total_timeout_seconds": 60}
_POLLS = 3
Change = Callable[[bytes], bytes]


class Hostile:
    """Stands between a client and a CA, and changes each answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.change: Change = bytes
        self.changed: list[tuple[bytes, bytes]] = []
        self.slept = 0

    def sleep(self, _: float) -> None:
        """Not for ever."""
        self.slept += 1
        if self.slept > _POLLS:
            raise TimedOut("enough")

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        answer = self.world.responder.handle(request)
        told = self.change(answer)
        self.changed.append((answer, told))
        return told

    def close(self) -> None:
        """Nothing to close."""


class Operations:
    """What a client may ask, each with a check of what it got."""

    def __init__(self) -> None:
        self.world = fresh_world()
        self.device = self.world.device()
        self.certificate = self.device.enroll(KEYS[0])
        self.hostile = Hostile(self.world)
        root = self.world.ca.certificate
        self.by_secret = Session(Context(credential=SECRET, **OPTIONS), self.hostile, sleep=self.hostile.sleep)
        implicit = Context(credential=SECRET, implicit_confirm=True, **OPTIONS)
        self.implicitly = Session(implicit, self.hostile, sleep=self.hostile.sleep)
        signer = Signer(self.certificate, KEYS[0])
        self.by_signature = Session(
            Context(credential=signer, trusted=[root], **OPTIONS), self.hostile, sleep=self.hostile.sleep
        )
        self.kept = Kept(self.world.store)
        self.all: list[Callable[[], object]] = [
            lambda: self.enroll(self.by_secret),
            lambda: self.enroll(self.implicitly),
            lambda: self.enroll(self.by_signature),
            self.update,
            self.by_signature.revoke,
            lambda: [each.not_valid_after_utc for each in self.by_secret.ca_certificates()],
            lambda: self.by_signature.root_ca_update(root),
            lambda: self.by_secret.request_info(oids.IT_CURRENT_CRL),
            lambda: self.by_secret.request_info(oids.IT_SIGN_KEY_PAIR_TYPES),
        ]

    def enroll(self, session: Session) -> None:
        """A certificate for our key, and no other."""
        issued = session.enroll("CN=device", key=KEYS[1])
        assert facts(issued.certificate.public_bytes(Encoding.DER)).spki == KEYS[1].public_key_der

    def update(self) -> None:
        """A new one."""
        issued = self.by_signature.update(key=KEYS[2])
        assert facts(issued.certificate.public_bytes(Encoding.DER)).spki == KEYS[2].public_key_der

    def run(self, number: int, change: Change) -> list[tuple[bytes, bytes]]:
        """The answers as they were and as they were told, when the operation went well."""
        self.hostile.change, self.hostile.changed, self.hostile.slept = change, [], 0
        try:
            with contextlib.suppress(CMPError, StillWaiting):
                self.all[number % len(self.all)]()
                return self.hostile.changed
            return []
        finally:
            self.kept.restore()

    def seeds(self) -> list[bytes]:
        """All answers to all operations, each behind the number of its operation and of the answer."""
        found = []
        for number in range(len(self.all)):
            changed = self.run(number, bytes)
            assert changed, number
            found += [bytes((number, at)) + answer for at, (answer, _) in enumerate(changed)]
        return found


@contextlib.contextmanager
def answers() -> Iterator[Target]:
    """Answers that are changed on their way: who believes one believes what its protection covers, as it was."""
    operations = Operations()
    seeds = operations.seeds()

    def run(chance: random.Random, data: bytes) -> None:
        number, at = (data + b"\0\0")[:2]
        count = 0

        def change(answer: bytes) -> bytes:
            nonlocal count
            count += 1
            return _fitted(data[2:], answer) if count - 1 == at % 2 else answer

        for answer, told in operations.run(number, change):
            if told != answer:
                assert _covered(admit(told)) == _covered(admit(answer))

    yield Target(name="answers", seeds=seeds, run=run)


def _covered(message: Message) -> tuple[bytes, bytes | None]:
    return message.protected_part, message.protection


def _fitted(data: bytes, answer: bytes) -> bytes:
    """``data`` with the ids and nonces of this transaction where it has those of the recorded one."""
    try:
        was, now = admit(data).header, admit(answer).header
    except CMPError:
        return data
    for old, new in ((was.transaction_id, now.transaction_id), (was.recip_nonce, now.recip_nonce)):
        if old and new and len(old) == len(new):
            data = data.replace(old, new)
    return data


@contextlib.contextmanager
def contents() -> Iterator[Target]:
    """Bodies that are nearly right, of a server that has the secret, or the CA's key."""
    operations = Operations()
    seeds = []
    for seed in operations.seeds():
        message = admit(seed[2:])
        seeds.append(seed[:2] + bytes([message.body_type]) + message.body_der)

    def run(chance: random.Random, data: bytes) -> None:
        number, at, kind = (data + b"\0\0\0")[:3]
        count = 0

        def change(answer: bytes) -> bytes:
            nonlocal count
            count += 1
            was = admit(answer)
            if count - 1 != at % 2 or was.header.recip_nonce is None:
                return answer
            protector: Protector = MacProtector(SECRET)
            if was.mac is None:
                protector = operations.world.responder._signer
            header = make_header(
                sender=protector.sender_name,
                recipient=b"0\0",
                transaction_id=was.transaction_id,
                sender_nonce=os.urandom(16),
                recip_nonce=was.recip_nonce,
                general_info=was.header.general_info or (),
            )
            return protect(header, BodyType(kind % 27), data[3:], protector, was.extra_certs)

        operations.run(number, change)

    yield Target(name="contents", seeds=seeds, run=run)
