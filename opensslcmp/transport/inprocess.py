"""A responder in this process: no socket, no HTTP."""

from typing import Any, Protocol

__all__ = ["Handler", "InProcess"]


class Handler(Protocol):
    """The part of a responder that a transport needs."""

    @property
    def handle(self) -> Any:
        """Called with the request and, if there is one, the peer; returns the answer."""
        ...


class InProcess:
    """Sends each message to a responder of this process. As safe between threads as the responder.

    Args:
        responder: its ``handle`` gets the request.
        peer: who the request is from, as the responder sees it; None is the responder's default.
    """

    def __init__(self, responder: Handler, peer: Any = None) -> None:
        self._handle = responder.handle
        self._peer = () if peer is None else (peer,)

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The responder's answer. It takes the time it takes: nothing here waits, so no timeout applies."""
        answer: bytes = self._handle(request, *self._peer)
        return answer

    def close(self) -> None:
        """Nothing to close: the responder is the caller's."""
