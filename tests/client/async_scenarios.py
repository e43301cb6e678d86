"""What becomes of enrollments in greenlets; each leaves nothing of libcrypto's allocated (``tests.leaks``)."""

import asyncio
from typing import Any

import anyio
from cryptography.hazmat.primitives.asymmetric import ec

from opensslcmp import AsyncSession, Context
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacProtector
from opensslcmp.enums import BodyType
from tests.client.client_peers import SECRET, certify
from tests.client.scripted import Scripted

CA = certify("ca", ec.generate_private_key(ec.SECP256R1()), is_ca=True)
KEY = PrivateKey.generate("rsa:2048")
# With keyEnc the greenlet sleeps inside C.
CONTEXTS = [Context(credential=SECRET, popo="signature"), Context(credential=SECRET, popo="keyEnc")]


def _enroll(context: Context, hold: BodyType | None) -> Any:
    peer = Scripted(CA, MacProtector(SECRET), secret=SECRET)

    async def send(request: bytes) -> bytes:
        answer = peer.send(request, 1.0)
        if peer.kinds[-1] is hold:
            await anyio.sleep_forever()
        return answer

    return AsyncSession(context, send).enroll("CN=device", KEY)


async def _all(hold: BodyType | None, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await asyncio.gather(*(_enroll(context, hold) for context in CONTEXTS))


def finished() -> None:
    """They get their certificates."""
    asyncio.run(_all(None, 60))


def cancelled() -> None:
    """They are cancelled while they wait."""
    asyncio.run(_all(BodyType.IR, 0.02))


def abandoned() -> None:
    """Nobody cancels or awaits them any more."""

    async def start() -> None:
        for context in CONTEXTS:
            coroutine = _enroll(context, BodyType.IR)
            coroutine.send(None)
            del coroutine

    asyncio.run(start())
