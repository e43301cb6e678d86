"""CMP over HTTP and HTTPS, for threads and for event loops (RFC 9811).

One generator, ``_exchange``, knows the order of things: take an idle connection or connect (names, TCP, proxy, TLS),
send, read, give the connection back. ``pool`` has the connections, and says how it waits.

An idle connection may have been closed by the server. It is looked at before anything is sent; when the server closes
it just then, so that no byte of an answer arrives, the message is sent once more, on a new connection. A CMP server
takes that for what it is, the same message again. Nothing else is ever sent twice.
"""

import os
from collections.abc import Sequence

from opensslcmp.context.http import Connection
from opensslcmp.errors import TransportError
from opensslcmp.transport import http1
from opensslcmp.transport.pool import PATIENCE_SECONDS, TLS, Awaiting, Blocking, ClosedWhileIdle, Pool, Steps

__all__ = ["TLS", "AsyncHTTPTransport", "HTTPTransport"]


class _HTTP(Pool):
    """What both transports are, apart from waiting."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_seconds: float = 10.0,
        message_timeout_seconds: float = 60.0,
        proxy: str | None = None,
        no_proxy: str | None = None,
        tls: TLS | None = None,
        keep_alive: bool = True,
        require_keep_alive: bool = False,
        max_response_bytes: int = 1024 * 1024,
        max_connections: int = 32,
        max_idle_seconds: float = 30.0,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        target = http1.parse_url(url)
        secure = target.scheme == "https"
        if tls is not None and not secure:
            raise ValueError("TLS is given, but the URL is not an https one")
        if max_response_bytes < 1:
            raise ValueError("max_response_bytes must be at least 1")
        via = _choose_proxy(target, proxy, no_proxy)
        super().__init__(
            target,
            connect_timeout_seconds=connect_timeout_seconds,
            message_timeout_seconds=message_timeout_seconds,
            tls=(tls or TLS()) if secure else None,
            keep_alive=keep_alive,
            max_connections=max_connections,
            max_idle_seconds=max_idle_seconds,
            via=via,
        )
        self._max_response = max_response_bytes
        self._require_keep_alive = require_keep_alive
        fields = [*headers]
        http1.check_headers(fields)
        absolute = via is not None and not secure
        if via and absolute and via.authorization:
            fields.append(("Proxy-Authorization", via.authorization))
        self._head = http1.request_head(target, absolute=absolute, keep_alive=keep_alive, headers=fields)

    def _exchange(self, request: bytes, deadline: float, *, announcement: bool, patient: bool) -> Steps[bytes]:
        """Send ``request`` and return the PKIMessage that answers it."""
        message = b"".join((self._head, str(len(request)).encode(), b"\r\n\r\n", request))
        patience = PATIENCE_SECONDS if patient else 0.0
        sent = False
        try:
            answer = None
            if (connection := self._take()) is not None:
                sent = True
                try:
                    answer = yield from self._round_trip(connection, message, deadline, patience)
                except ClosedWhileIdle:
                    connection = None
            if connection is None or answer is None:
                connection = yield from self._connect(deadline, patience)
                sent = True
                answer = yield from self._round_trip(connection, message, deadline, patience)
            if self._require_keep_alive and not (answer.reusable or connection.reused):
                connection.close()
                raise TransportError("the server does not keep the connection open")
            self._give_back(connection, answer.reusable)
            return http1.message_of(answer, announcement=announcement)
        except TransportError as error:
            raise type(error)(
                f"{self.url}: {error}",
                http_status=error.http_status,
                retry_after_seconds=error.retry_after_seconds,
                sent=sent,
            ) from (error.__cause__ or error)

    def _round_trip(
        self,
        connection: Connection,
        message: bytes,
        deadline: float,
        patience: float,
        *,
        tunnel: bool = False,
    ) -> Steps[http1.Answer]:
        reader = http1.AnswerReader(self._max_response, tunnel=tunnel)
        answer, whole = yield from self._converse(connection, message, reader, deadline, patience)
        return answer if whole else http1.without_reuse(answer)  # answered before it had read everything

    def _tunnel(self, connection: Connection, proxy: http1.Target, deadline: float, patience: float) -> Steps[None]:
        request = http1.connect_request(self._target, proxy.authorization)
        answer = yield from self._round_trip(connection, request, deadline, patience, tunnel=True)
        if not 200 <= answer.status < 300:
            raise TransportError(f"proxy {proxy.host_text}:{proxy.port}: {http1.status_text(answer)}")


class HTTPTransport(Blocking, _HTTP):
    """Sends messages to one URL over a few kept connections. Use it from as many threads as you like.

    Args:
        url: ``http://`` or ``https://``; user and password in it become an Authorization field, and are never shown.
        connect_timeout_seconds: for a new connection: names, TCP, proxy, TLS.
        message_timeout_seconds: for a message and its answer, everything included.
        proxy: URL of an HTTP proxy, with user and password if it wants them; ``""``: none; None: what the environment's
            ``http_proxy`` or ``https_proxy`` (or upper-case forms) says.
        no_proxy: hosts to reach directly, separated by commas or spaces: a name, ``.domain`` or ``*``; None: the
            environment's ``no_proxy``.
        tls: whom to trust and who we are; None: the system's trust, no client certificate.
        keep_alive: keep connections for later messages.
        max_response_bytes: a larger answer is a ``TransportError``.
        max_connections: at one time; a message waits for one to become free.
        max_idle_seconds: a connection that idled longer is not used again.
        headers: further header fields, such as an API key of a gateway.

    Raises:
        ValueError: an argument cannot be used.

    Source: RFC 9811.
    """

    def send(self, request: bytes, timeout_seconds: float | None = None, *, announcement: bool = False) -> bytes:
        """The PKIMessage that answers ``request``.

        Args:
            request: DER of a PKIMessage.
            timeout_seconds: for all of it; None: the transport's ``message_timeout_seconds``.
            announcement: it may be acknowledged by an empty 200, 201 or 202 (RFC 9811, 3.5), which returns ``b""``.

        Raises:
            TimedOut: not in time.
            TransportError: no PKIMessage came back. One under HTTP 4xx or 5xx is returned.
            ValueError: the transport is closed.
        """
        deadline = self._deadline(timeout_seconds)
        return self._run(self._exchange(request, deadline, announcement=announcement, patient=True), deadline)


class AsyncHTTPTransport(Awaiting, _HTTP):
    """``HTTPTransport`` for asyncio and trio, with the same arguments. Needs ``anyio`` (the extra ``async``).

    Use it from one event loop at a time. Many sends may be under way; ``max_connections`` of them have a connection.
    A send that is cancelled closes its connection.
    """

    async def send(self, request: bytes, timeout_seconds: float | None = None, *, announcement: bool = False) -> bytes:
        """The PKIMessage that answers ``request``; see ``HTTPTransport.send``."""
        deadline = self._deadline(timeout_seconds)
        return await self._run(self._exchange(request, deadline, announcement=announcement, patient=False), deadline)


def _choose_proxy(target: http1.Target, proxy: str | None, no_proxy: str | None) -> http1.Target | None:
    """The proxy to use for ``target``, as OSSL_HTTP_adapt_proxy(3) chooses it."""
    if proxy is None:
        names = [f"{target.scheme}_proxy", f"{target.scheme}_proxy".upper()]
        if "REQUEST_METHOD" in os.environ:  # in a CGI program, HTTP_PROXY is the peer's "Proxy:" header field
            names = names[:1]
        proxy = next((value for name in names if (value := os.environ.get(name))), "")
    if no_proxy is None:
        no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    host = target.host.lower()
    for entry in no_proxy.lower().replace(",", " ").split():
        if entry in ("*", host, target.host_text) or (entry.startswith(".") and host.endswith(entry)):
            return None
    return http1.parse_url(proxy, schemes=("http",)) if proxy else None
