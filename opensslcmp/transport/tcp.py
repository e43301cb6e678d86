"""CMP straight over TCP, or TCP with TLS, for threads and for event loops (``cmp+tcp://host:port``, ``cmps+tcp://``).

``tcp_message`` has the form of what is sent. Connections are kept while both sides do not ask for their end. A peer that has
no answer yet says when to come back (pollRep), which happens within the time of the message. Of a partialMsgRep the
PKIMessage is the answer; what the peer would send later is not asked for, since polling in CMP does that better.

Source: RFC 2510, 5.2; draft-ietf-pkix-cmp-transport-protocols-05, 3.
"""

from time import monotonic

from opensslcmp.context.http import Connection
from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.transport.http1 import Target, parse_url
from opensslcmp.transport.pool import PATIENCE_SECONDS, TLS, Awaiting, Blocking, ClosedWhileIdle, Pause, Pool, Steps
from opensslcmp.transport.tcp_message import VERSION, TCPMessage, TCPReader, TCPType

__all__ = ["DEFAULT_PORT", "AsyncTCPTransport", "TCPTransport"]

DEFAULT_PORT = 829
"""pkix-3-ca-ra, as IANA calls it."""

_SCHEMES = {"cmp+tcp": False, "cmps+tcp": True}
_MOST_POLLS = 1000


class _TCP(Pool):
    """What both transports are, apart from waiting."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_seconds: float = 10.0,
        message_timeout_seconds: float = 60.0,
        tls: TLS | None = None,
        keep_alive: bool = True,
        max_response_bytes: int = 1024 * 1024,
        max_connections: int = 32,
        max_idle_seconds: float = 30.0,
    ) -> None:
        target = _target(url)
        secure = _SCHEMES[target.scheme]
        if tls is not None and not secure:
            raise ValueError("TLS is given, but the URL is not a cmps+tcp one")
        if max_response_bytes < 1:
            raise ValueError("max_response_bytes must be at least 1")
        super().__init__(
            target,
            connect_timeout_seconds=connect_timeout_seconds,
            message_timeout_seconds=message_timeout_seconds,
            tls=(tls or TLS()) if secure else None,
            keep_alive=keep_alive,
            max_connections=max_connections,
            max_idle_seconds=max_idle_seconds,
        )
        self._max_response = max_response_bytes

    @property
    def url(self) -> str:
        """Where messages go."""
        return f"{self._target.scheme}://{self._target.host_text}:{self._target.port}"

    def _exchange(self, request: bytes, deadline: float, *, patient: bool) -> Steps[bytes]:
        patience = PATIENCE_SECONDS if patient else 0.0
        asked = TCPMessage(kind=TCPType.PKI_REQUEST, value=request, close=not self._keep_alive)
        sent = False
        try:
            for _ in range(_MOST_POLLS):
                connection = self._take()
                if connection is not None:
                    sent = True
                    try:
                        answer = yield from self._round(connection, asked, deadline, patience)
                    except ClosedWhileIdle:
                        connection = None
                if connection is None:
                    connection = yield from self._connect(deadline, patience)
                    sent = True
                    answer = yield from self._round(connection, asked, deadline, patience)
                if answer.kind != TCPType.POLL_REPLY:
                    return _message_of(answer)
                reference, seconds = answer.poll
                if seconds >= deadline - monotonic():
                    raise TimedOut(f"the answer will not be there for {seconds} seconds")
                yield Pause(seconds)
                asked = TCPMessage(kind=TCPType.POLL_REQUEST, value=reference, close=not self._keep_alive)
            raise TransportError(f"there was no answer to {_MOST_POLLS} polls")
        except TransportError as error:
            raise type(error)(f"{self.url}: {error}", sent=sent) from (error.__cause__ or error)

    def _round(self, connection: Connection, asked: TCPMessage, deadline: float, patience: float) -> Steps[TCPMessage]:
        answer, whole = yield from self._converse(
            connection, asked.encode(), TCPReader(self._max_response + 8), deadline, patience
        )
        self._give_back(connection, whole and not answer.close and answer.version == VERSION)
        if answer.version != VERSION:
            raise TransportError(f"the peer speaks version {answer.version} of CMP over TCP")
        return answer


class TCPTransport(Blocking, _TCP):
    """Sends messages to one host and port over a few kept connections. Use it from as many threads as you like.

    Args:
        url: ``cmp+tcp://host:port``, or ``cmps+tcp://host:port`` with TLS; port 829 when there is none.
        connect_timeout_seconds: for a new connection: names, TCP, TLS.
        message_timeout_seconds: for a message and its answer, everything included.
        tls: whom to trust and who we are; None: the system's trust, no client certificate.
        keep_alive: keep connections for later messages.
        max_response_bytes: a larger answer is a ``TransportError``.
        max_connections: at one time; a message waits for one to become free.
        max_idle_seconds: a connection that idled longer is not used again.

    Raises:
        ValueError: an argument cannot be used.

    Source: draft-ietf-pkix-cmp-transport-protocols-05, 3.
    """

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The PKIMessage that answers ``request``; ``b""`` when the peer says that there is nothing to answer.

        Args:
            request: DER of a PKIMessage.
            timeout_seconds: for all of it; None: the transport's ``message_timeout_seconds``.

        Raises:
            TimedOut: not in time.
            TransportError: no PKIMessage came back.
            ValueError: the transport is closed.
        """
        deadline = self._deadline(timeout_seconds)
        return self._run(self._exchange(request, deadline, patient=True), deadline)


class AsyncTCPTransport(Awaiting, _TCP):
    """``TCPTransport`` for asyncio and trio, with the same arguments. Needs ``anyio`` (the extra ``async``).

    Use it from one event loop at a time. A send that is cancelled closes its connection.
    """

    async def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The PKIMessage that answers ``request``; see ``TCPTransport.send``."""
        deadline = self._deadline(timeout_seconds)
        return await self._run(self._exchange(request, deadline, patient=False), deadline)


def _target(url: str) -> Target:
    target = parse_url(url, schemes=tuple(_SCHEMES), default_port=DEFAULT_PORT)
    if target.authorization or target.path not in {"", "/"}:
        raise ValueError("the URL of CMP over TCP has a host and a port, and nothing else")
    return target


def _message_of(answer: TCPMessage) -> bytes:
    if answer.kind in {TCPType.PKI_REPLY, TCPType.PARTIAL_REPLY}:
        if not answer.message:
            raise TransportError("the answer has no PKIMessage in it")
        return answer.message
    if answer.kind == TCPType.FINISHED:
        return b""
    if answer.kind == TCPType.ERROR:
        raise TransportError(f"the peer says {answer.error}")
    raise TransportError(f"the peer answered by a TCP-message of type {answer.kind}")
