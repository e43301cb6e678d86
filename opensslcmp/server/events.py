"""What the Responder tells of each message, once its answer is durable: for audit, metrics, and whoever else looks on.

An observer is called in the thread that handled the message, before the answer leaves, in the order of the answers of that
thread. It gets what is at hand and no more: what is to be read for people is worked out when it is asked for, so an
observer that only counts costs little. What it raises is logged; the answer leaves all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from opensslcmp.asn1 import PKIStatusInfo, initializer
from opensslcmp.context.protection import Verified
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.server.peer import Peer

__all__ = ["Decision", "Event", "Observer", "decision_of", "tell_all"]


class Decision(StrEnum):
    """What became of a message."""

    ACCEPTED = "accepted"
    """Done as asked."""
    GRANTED_WITH_MODS = "grantedWithMods"
    """A certificate, but not all as asked."""
    PARTLY = "partly"
    """Of several requests some were rejected."""
    REJECTED = "rejected"
    """The authority, or a rule about the request, said no."""
    WAITING = "waiting"
    """The requester is told to ask again."""
    ERROR = "error"
    """An error message: the message as a whole was refused, or the server failed."""
    REPLAYED = "replayed"
    """A retransmission got the answer that it got before."""
    EXPIRED = "expired"
    """No message: the time of a transaction was up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One message, or one transaction that ended because its time was up. It holds no secret.

    Attributes:
        time: seconds since 1970, by the Responder's clock.
        peer: what the transport knew.
        decision: what became of it.
        body_type: of the message; None when it was none that could be read, or time alone acted.
        answer: body type of the answer; None when there is none, or it was given before.
        transaction_id: None when it was not read, or the message had none.
        requester: who protected it; None when that was not verified.
        claimed: senderKID as it stands in the message, for who was not verified.
        identity: of the credential; of the one that began the transaction when time alone acted.
        ra: the requester is an authorised registration authority.
        statuses: PKIStatusInfo of the answer, one for each request; one of an error.
        issued, confirmed, revoked, released: serial numbers of certificates that changed so.
        recovered: serial numbers of certificates whose archived keys were given back.
        seconds: from the message to its answer, on the wall.
        verify_seconds, decide_seconds, store_seconds: of these, until the protection was verified, until the answer was
            made, and for the commit; 0 where it did not come to that.
    """

    time: float
    peer: Peer
    decision: Decision
    body_type: BodyType | None = None
    answer: BodyType | None = None
    transaction_id: bytes | None = None
    requester: Verified | None = field(default=None, repr=False)
    claimed: bytes | None = None
    identity: bytes = b""
    ra: bool = False
    statuses: tuple[PKIStatusInfo, ...] = ()
    issued: tuple[int, ...] = ()
    confirmed: tuple[int, ...] = ()
    revoked: tuple[int, ...] = ()
    released: tuple[int, ...] = ()
    recovered: tuple[int, ...] = ()
    seconds: float = 0.0
    verify_seconds: float = 0.0
    decide_seconds: float = 0.0
    store_seconds: float = 0.0

    @property
    def failures(self) -> tuple[FailureInfo, ...]:
        """The failInfo bits of the answer, each once."""
        return tuple(dict.fromkeys(failure for status in self.statuses for failure in status.failures))

    @property
    def reasons(self) -> tuple[str, ...]:
        """The statusStrings of the answer."""
        return tuple(text for status in self.statuses for text in status.text)


Event.__init__ = initializer(Event)  # type: ignore[method-assign]


Observer: TypeAlias = Callable[[Event], None]
"""Is told of each message. May be called by several threads at once."""


def decision_of(statuses: tuple[PKIStatusInfo, ...]) -> Decision:
    """What an answer with these statuses says; one without any grants what was asked."""
    found = {status.status for status in statuses}
    if PKIStatus.WAITING in found:
        return Decision.WAITING
    if PKIStatus.REJECTION in found:
        return Decision.REJECTED if len(found) == 1 else Decision.PARTLY
    return Decision.GRANTED_WITH_MODS if PKIStatus.GRANTED_WITH_MODS in found else Decision.ACCEPTED


def tell_all(observers: Iterable[Observer | None]) -> Observer | None:
    """One observer that tells each of these, in their order; None when there is none. One that raises keeps no other."""
    there = tuple(each for each in observers if each is not None)
    if len(there) <= 1:
        return there[0] if there else None

    def tell(event: Event) -> None:
        errors: list[Exception] = []
        for each in there:
            try:
                each(event)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("observers failed", errors)

    return tell
