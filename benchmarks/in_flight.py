"""Enrollments that wait all at once in one thread: ``python -m benchmarks.in_flight COUNT [asyncio|trio]`` prints JSON.

Both ends are in the process. The peer answers every ir with "waiting" and every pollReq with "later" until all enrollments
are asleep; then memory is read, and the answers come. With ``--answer-seconds 1`` it is a slow server instead: each
answer comes so late.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cases import EASIEST
from benchmarks.ends import Ends, new_key
from opensslcmp.asn1 import (
    CertRepMessage,
    CertResponse,
    Message,
    PKIStatusInfo,
    PollRep,
    admit,
    encode_body,
    make_header,
)
from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacProtector, fresh_bytes, protect
from opensslcmp.credentials import MacParameters, SharedSecret
from opensslcmp.enums import BodyType, PKIStatus

__all__ = ["main", "measure", "measure_slow_server"]

# What OpenSSL's own client asks for, as in ends.
_CREDENTIAL = SharedSecret("device", b"benchmark-secret", parameters=MacParameters(mac="hmac-sha1", iterations=500))


class _Slow:
    """A server that lets every client poll before it asks the Responder."""

    def __init__(self) -> None:
        self._responder = Ends(EASIEST).responder
        self._protector = MacProtector(_CREDENTIAL)
        self._pending: dict[bytes, bytes] = {}
        self.ready = False

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        message = admit(request)
        assert message.transaction_id is not None
        if message.body_type is BodyType.IR:
            self._pending[message.transaction_id] = request
            response = CertResponse(cert_req_id=0, status=PKIStatusInfo.make(PKIStatus.WAITING))
            return self._answer(message, BodyType.IP, CertRepMessage(response=[response]))
        if message.body_type is BodyType.POLL_REQ:
            if not self.ready:
                return self._answer(message, BodyType.POLL_REP, [PollRep(cert_req_id=0, check_after=1)])
            request = self._pending.pop(message.transaction_id)
        return self._responder.handle(request)

    def _answer(self, message: Message, body_type: BodyType, content: Any) -> bytes:
        header = make_header(
            sender=self._protector.sender_name,
            recipient=message.sender or b"0\x00",
            transaction_id=message.transaction_id,
            sender_nonce=fresh_bytes(16),
            recip_nonce=message.sender_nonce,
        )
        return protect(header, body_type, encode_body(body_type, content), self._protector)


def _megabytes(field: str) -> float:
    """VmRSS: resident now. VmHWM: the most that ever was; ru_maxrss would count what came before exec(2) as well."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


async def _all_at_once(count: int, peer: _Slow, context: Context, key: PrivateKey) -> float:
    """Resident megabytes with all of them asleep."""
    import anyio

    from opensslcmp.client.async_session import AsyncSession

    asleep = 0
    everybody, go_on = anyio.Event(), anyio.Event()

    async def sleep(seconds: float) -> None:
        nonlocal asleep
        asleep += 1
        if asleep == count:
            everybody.set()
        await go_on.wait()

    session = AsyncSession(context, peer, sleep=sleep)

    async def enroll(number: int) -> None:
        await session.enroll(f"CN=device-{number}", key)

    if "trio" in sys.argv:
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(enroll, number)
            await everybody.wait()
            resident = _megabytes("VmRSS")
            peer.ready = True
            go_on.set()
        return resident
    tasks = [asyncio.create_task(enroll(number)) for number in range(count)]
    await everybody.wait()
    resident = _megabytes("VmRSS")
    peer.ready = True
    go_on.set()
    await asyncio.gather(*tasks)
    return resident


def measure(count: int, backend: str = "asyncio") -> dict[str, float]:
    """Megabytes of the process with ``count`` enrollments in flight, the most it had, and rates beside ``Session``'s."""
    import anyio

    key = PrivateKey.load(new_key("ec"))
    context = Context(credential=_CREDENTIAL, implicit_confirm=True)
    peer = _Slow()

    def one_by_one(turns: int) -> float:
        def sleep(seconds: float) -> None:
            peer.ready = True

        session = Session(context, peer, sleep=sleep)
        start = time.thread_time()
        for number in range(turns):
            peer.ready = False
            session.enroll(f"CN=device-{number}", key)
        peer.ready = False
        return turns / (time.thread_time() - start)

    one_by_one(20)
    before = _megabytes("VmRSS")
    blocking = one_by_one(min(count, 500))
    start = time.thread_time()
    resident = anyio.run(_all_at_once, count, peer, context, key, backend=backend)
    rate = count / (time.thread_time() - start)
    blocking = (blocking + one_by_one(min(count, 500))) / 2
    most = _megabytes("VmHWM")
    return {
        "count": count,
        "before_mb": round(before, 1),
        "in_flight_mb": round(resident, 1),
        "most_mb": round(most, 1),
        "each_kb": round((resident - before) * 1024 / count, 2),
        "rate": round(rate, 1),
        "session_rate": round(blocking, 1),
    }


class _Late:
    """A server whose answers take a while."""

    def __init__(self, seconds: float) -> None:
        self._responder = Ends(EASIEST).responder
        self._seconds = seconds
        self.inside = self.most = 0

    async def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        import anyio

        self.inside += 1
        self.most = max(self.most, self.inside)
        await anyio.sleep(self._seconds)
        self.inside -= 1
        return self._responder.handle(request)


def measure_slow_server(count: int, seconds: float, backend: str = "asyncio") -> dict[str, float]:
    """Megabytes and seconds of ``count`` enrollments begun at once with a server that takes ``seconds`` for each answer."""
    import anyio

    from opensslcmp.client.async_session import AsyncSession

    key = PrivateKey.load(new_key("ec"))
    peer = _Late(seconds)
    # Unconfirmed, they would be more than the server lets one requester have open.
    context = Context(credential=_CREDENTIAL, implicit_confirm=True, message_timeout_seconds=3600.0)
    issued = 0

    async def main() -> None:
        session = AsyncSession(context, peer)

        async def enroll(number: int) -> None:
            nonlocal issued
            await session.enroll(f"CN=device-{number}", key)
            issued += 1

        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(enroll, number)

    before = _megabytes("VmRSS")
    begun, worked = time.monotonic(), time.thread_time()
    anyio.run(main, backend=backend)
    elapsed, worked = time.monotonic() - begun, time.thread_time() - worked
    return {
        "count": issued,
        "in_flight": peer.most,
        "before_mb": round(before, 1),
        "most_mb": round(_megabytes("VmHWM"), 1),
        "seconds": round(elapsed, 1),
        "rate": round(issued / elapsed, 1),
        "rate_of_cpu": round(issued / worked, 1),
    }


def main() -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("backend", nargs="?", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--answer-seconds", type=float, help="a server that takes so long for each answer")
    given = parser.parse_args()
    if given.answer_seconds is None:
        found = measure(given.count, given.backend)
    else:
        found = measure_slow_server(given.count, given.answer_seconds, given.backend)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
