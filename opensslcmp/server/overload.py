"""What a server does when more messages come than it can answer: it bounds what waits, and chooses whom to serve first.

Messages wait in two lanes. First goes what carries on with a transaction that the store has, such as certConf and pollReq:
the work that went into it is not to be lost. In each lane the addresses take turns, so who sends much waits for himself.
Only while others wait is the transaction looked for.

When the queue is full, a message of the address that has most in it gives way, and is answered at once: HTTP 503 with
Retry-After, and in it an ``error`` with systemUnavail. It is not protected: a signature costs as much as what is refused.

Source: RFC 9811, 3.1; RFC 9110, 10.2.3 and 15.6.4; RFC 9810, 5.3.21 and Appendix F (systemUnavail).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from opensslcmp.asn1 import (
    NULL_DN,
    ErrorMsgContent,
    PKIHeader,
    PKIStatusInfo,
    assemble,
    directory_name,
    encode,
    protected_part,
    read_header,
)
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.server.http_service import PKIXCMP, Reply
from opensslcmp.server.peer import Peer

__all__ = ["Intake", "Job", "peek", "unavailable"]

_TURN_SECONDS = 0.01


@dataclass(slots=True, eq=False)
class Job:
    """A message that waits for its turn.

    Attributes:
        answered: called with the answer of HTTP, once.
        gone: nobody waits for the answer any more; what has not begun is dropped.
        first: it carries on with a transaction.
    """

    body: bytes
    peer: Peer
    answered: Callable[[Reply], object]
    gone: bool = False
    first: bool = False


def peek(message: bytes) -> tuple[int | None, bytes | None, bytes | None]:
    """Body type, transactionID and senderNonce, as far as they can be read; no check of anything.

    Source: RFC 9810, 5.1 and 5.1.1.
    """
    body_type = transaction_id = nonce = None
    with contextlib.suppress(ValueError, IndexError):
        _, at, end = read_header(message, 0, len(message))
        _, inside, body_at = read_header(message, at, end)
        body_type = message[body_at] & 0x1F
        position = inside
        while position < body_at:
            tag, content, stop = read_header(message, position, body_at)
            if tag in {0xA4, 0xA5} and message[content] == 0x04:
                _, start, last = read_header(message, content, stop)
                if tag == 0xA4:
                    transaction_id = message[start:last]
                else:
                    nonce = message[start:last]
            position = stop
    return body_type, transaction_id, nonce


def unavailable(message: bytes, retry_after_seconds: int, text: str, status: int = 503) -> Reply:
    """The answer to a message that is not even looked at."""
    _, transaction_id, nonce = peek(message)
    nobody = directory_name(NULL_DN)
    header = PKIHeader(pvno=2, sender=nobody, recipient=nobody, transaction_id=transaction_id, recip_nonce=nonce)
    said = PKIStatusInfo.make(PKIStatus.REJECTION, text, failure=FailureInfo.SYSTEM_UNAVAIL)
    body = encode(ErrorMsgContent(pki_status_info=said))
    error = assemble(protected_part(header, BodyType.ERROR, body), None)
    return Reply(status, PKIXCMP, error, ((b"retry-after", b"%d" % retry_after_seconds),))


class _Lane:
    """Jobs by address; the addresses take turns."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str | None, deque[Job]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def push(self, job: Job) -> None:
        queue = self._queues.get(job.peer.address)
        if queue is None:
            queue = self._queues[job.peer.address] = deque()
        queue.append(job)

    def pop(self) -> Job:
        address, queue = next(iter(self._queues.items()))
        job = queue.popleft()
        if queue:
            self._queues.move_to_end(address)
        else:
            del self._queues[address]
        return job

    def longest(self) -> tuple[int, str | None]:
        """How many jobs the address with most of them has, and which it is."""
        address = max(self._queues, key=lambda each: len(self._queues[each]), default=None)
        return (len(self._queues[address]), address) if self._queues else (0, None)

    def waiting(self, address: str | None) -> int:
        """How many jobs an address has."""
        return len(self._queues.get(address, ()))

    def pop_last(self, address: str | None) -> Job:
        """The job of an address that came last."""
        queue = self._queues[address]
        job = queue.pop()
        if not queue:
            del self._queues[address]
        return job


class Intake:
    """Lets messages in, for as long as 10 ms in each turn of the event loop.

    Args:
        begin: begins to answer a job, and calls ``finished`` when that is done.
        max_waiting: messages that wait for their turn.
        max_under_way: messages that are worked on, which wait for an authority mostly. Those that carry on with a
            transaction may be a quarter more.
        retry_after_seconds: what who is refused is told.
        knows: tells whether a message, by its body type and transactionID, carries on with a transaction of the store.
    """

    def __init__(
        self,
        begin: Callable[[Job], None],
        *,
        max_waiting: int = 1024,
        max_under_way: int = 1024,
        retry_after_seconds: int = 5,
        knows: Callable[[int | None, bytes], bool] = lambda _type, _id: False,
    ) -> None:
        self._begin = begin
        self._max_waiting = max_waiting
        self._max_under_way = max_under_way
        self._retry_after_seconds = retry_after_seconds
        self._knows = knows
        self._first, self._others = _Lane(), _Lane()
        self._scheduled = False
        self.waiting = 0
        self.under_way = 0
        self.refused = 0

    @property
    def is_full(self) -> bool:
        """The next message, or one that waits, will be refused."""
        return self.waiting >= self._max_waiting

    def offer(self, job: Job) -> None:
        """Queue a job, or refuse it or one that waits."""
        if self.waiting or self.under_way >= self._max_under_way:
            body_type, transaction_id, _ = peek(job.body)
            job.first = transaction_id is not None and self._knows(body_type, transaction_id)
        if self.is_full:
            loser = self._loser(job)
            self.refused += 1
            loser.answered(unavailable(loser.body, self._retry_after_seconds, "the server is busy; try again later"))
            if loser is job:
                return
            self.waiting -= 1
        (self._first if job.first else self._others).push(job)
        self.waiting += 1
        self._schedule()

    def finished(self) -> None:
        """A job that was begun is done."""
        self.under_way -= 1
        if self.waiting:
            self._schedule()

    def _loser(self, job: Job) -> Job:
        """Who gives way to this job, taken from its lane; or the job itself."""
        lane = self._others if self._others else self._first
        if lane is self._first and not job.first:
            return job
        most, address = lane.longest()
        if lane is self._others and job.first:
            return lane.pop_last(address)
        return lane.pop_last(address) if most > lane.waiting(job.peer.address) + 1 else job

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _next(self) -> Job | None:
        if self._first and self.under_way < self._max_under_way + self._max_under_way // 4:
            return self._first.pop()
        if self._others and self.under_way < self._max_under_way:
            return self._others.pop()
        return None

    def _turn(self) -> None:
        self._scheduled = False
        until = time.perf_counter() + _TURN_SECONDS
        while (job := self._next()) is not None:
            self.waiting -= 1
            if job.gone:
                continue
            self.under_way += 1
            self._begin(job)
            if self.waiting and time.perf_counter() > until:
                self._schedule()
                return
