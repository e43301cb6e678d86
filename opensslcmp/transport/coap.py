"""CMP over CoAP (``coap://host/.well-known/cmp``), for threads and for asyncio. Needs ``aiocoap`` (the extra ``coap``).

Messages go by POST in Content-Format 259, in blocks where they are long. CoAP repeats what is lost by itself, for up to 93
seconds. With DTLS (``coaps://``) aiocoap needs DTLSSocket, which is not supported here: the messages of CMP protect themselves.

Source: RFC 9482; RFC 7252; RFC 7959.
"""

from __future__ import annotations

import math
from typing import Any

from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.transport.http1 import parse_url

__all__ = ["CONTENT_FORMAT", "DEFAULT_PORT", "AsyncCoAPTransport", "CoAPTransport"]

CONTENT_FORMAT = 259
"""application/pkixcmp, among CoAP's Content-Formats."""

DEFAULT_PORT = 5683
_PATH = "/.well-known/cmp"


class _CoAP:
    """What both transports are, apart from waiting."""

    def __init__(
        self, url: str, *, message_timeout_seconds: float = 60.0, max_response_bytes: int = 1024 * 1024
    ) -> None:
        if url.lower().startswith("coaps:"):
            raise ValueError("coaps:// is not supported; CMP protects its messages over coap:// too")
        target = parse_url(url, schemes=("coap",), default_port=DEFAULT_PORT)
        if target.authorization:
            raise ValueError("the URL of CMP over CoAP has no user and no password")
        if not (message_timeout_seconds > 0 and math.isfinite(message_timeout_seconds)):
            raise ValueError("a timeout must be a positive, finite number of seconds")
        if max_response_bytes < 1:
            raise ValueError("max_response_bytes must be at least 1")
        try:
            import aiocoap
        except ImportError:
            raise ImportError("CoAP needs aiocoap: pip install 'opensslcmp[coap]'", name="aiocoap") from None
        self._aiocoap: Any = aiocoap
        path = target.path if target.path not in {"", "/"} else _PATH
        self.url = f"coap://{target.host_text}:{target.port}{path}"
        self._timeout = message_timeout_seconds
        self._limit = max_response_bytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    async def _exchange(self, request: bytes, timeout_seconds: float | None) -> bytes:
        import asyncio

        aiocoap = self._aiocoap
        asked = aiocoap.Message(
            code=aiocoap.POST, uri=self.url, payload=request, content_format=CONTENT_FORMAT, accept=CONTENT_FORMAT
        )
        try:
            async with asyncio.timeout(self._timeout if timeout_seconds is None else timeout_seconds):
                context = await aiocoap.Context.create_client_context(transports=["udp6"])
                try:
                    answer = await context.request(asked).response
                finally:
                    await context.shutdown()
        except TimeoutError:
            raise TimedOut(f"{self.url}: no answer in time") from None
        except (aiocoap.error.Error, OSError) as error:
            raise TransportError(f"{self.url}: {str(error) or type(error).__name__}") from error
        return self._message_of(answer)

    def _message_of(self, answer: Any) -> bytes:
        """The PKIMessage in an answer, with whatever code (RFC 9482, 2.4); no bytes when it was none that is answered."""
        payload: bytes = answer.payload
        if len(payload) > self._limit:
            raise TransportError(f"{self.url}: the answer exceeds {self._limit} bytes")
        if payload and answer.opt.content_format == CONTENT_FORMAT:
            return payload
        if answer.code.is_successful() and not payload:
            return b""
        words = "".join(each if each.isprintable() else " " for each in payload[:200].decode("utf-8", "replace"))
        raise TransportError(f"{self.url}: {answer.code}{': ' if words else ''}{words}")


class CoAPTransport(_CoAP):
    """Sends messages over CoAP. May be used by several threads at once.

    Args:
        url: ``coap://host[:port][/path]``; port 5683 and ``/.well-known/cmp`` when it does not say.
        message_timeout_seconds: for a message and its answer, everything included.
        max_response_bytes: a larger answer is a ``TransportError``.

    Raises:
        ValueError: an argument cannot be used.
        ImportError: aiocoap is missing.

    Source: RFC 9482, 2.
    """

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The PKIMessage that answers ``request``; ``b""`` when the server says that there is nothing to answer.

        Args:
            request: DER of a PKIMessage.
            timeout_seconds: for all of it; None: the transport's ``message_timeout_seconds``.

        Raises:
            TimedOut: not in time.
            TransportError: no PKIMessage came back.
        """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self._exchange(request, timeout_seconds))
        with ThreadPoolExecutor(1) as thread:  # somebody blocks his event loop; ours needs another thread
            return thread.submit(asyncio.run, self._exchange(request, timeout_seconds)).result()

    def close(self) -> None:
        """Nothing to close."""


class AsyncCoAPTransport(_CoAP):
    """``CoAPTransport`` for asyncio (not trio), with the same arguments."""

    async def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The PKIMessage that answers ``request``; see ``CoAPTransport.send``."""
        return await self._exchange(request, timeout_seconds)

    async def close(self) -> None:
        """Nothing to close."""
