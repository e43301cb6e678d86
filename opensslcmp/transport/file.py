"""CMP by files, for threads and for event loops (``file:/var/spool/cmp``): requests and answers in a directory.

``mailbox`` says what lies where. Whoever answers may be a server that watches the directory, or a person who carries the files to
a machine without a network and back: the request waits in its file for as long as that takes. A send whose time is over
leaves the request there; sending the same bytes again, by this process or another, takes the answer. So an enrollment with
a journal is resumed whenever its answer has come.

Source: RFC 2510, 5.1; RFC 9810, 7.
"""

import math
from pathlib import Path
from time import monotonic
from urllib.parse import parse_qs, unquote, urlsplit

from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.transport.mailbox import Mailbox, Unusable
from opensslcmp.transport.pool import Pause, Steps, run, run_async

__all__ = ["AsyncFileTransport", "FileTransport"]


class _File:
    """What both transports are, apart from waiting."""

    def __init__(
        self,
        url: str,
        *,
        message_timeout_seconds: float = 60.0,
        max_response_bytes: int = 1024 * 1024,
        look_seconds: float = 0.2,
    ) -> None:
        self._directory, self._label = _parse(url)
        for name, value in (("message_timeout_seconds", message_timeout_seconds), ("look_seconds", look_seconds)):
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be finite and not negative")
        if max_response_bytes < 1:
            raise ValueError("max_response_bytes must be at least 1")
        self._mailbox = Mailbox(self._directory)
        self._timeout = message_timeout_seconds
        self._limit = max_response_bytes
        self._look = look_seconds

    @property
    def url(self) -> str:
        """Where messages go."""
        return f"file:{self._directory}" + (f"?label={self._label}" if self._label else "")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _exchange(self, request: bytes, timeout_seconds: float | None) -> Steps[bytes]:
        deadline = monotonic() + (self._timeout if timeout_seconds is None else timeout_seconds)
        try:
            self._mailbox.create()
            name = self._mailbox.ask(request, self._label)
            while (answer := self._mailbox.answer(name, self._limit)) is None:
                left = deadline - monotonic()
                if left <= 0:
                    raise TimedOut(f"{self.url}: no answer yet; {name} waits in {self._mailbox.requests}")
                yield Pause(min(self._look, left))
            self._mailbox.done(name, self._label)
            return answer
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise TransportError(f"{self.url}: {where}{error.strerror}") from error
        except Unusable as error:
            raise TransportError(f"{self.url}: {error}") from None


class FileTransport(_File):
    """Puts messages into a directory and takes their answers out of it. May be used by several threads at once.

    Args:
        url: ``file:DIRECTORY``, made when it is not there; ``?label=LABEL`` names a label of the server.
        message_timeout_seconds: how long to wait for an answer; 0 looks once. What was not answered stays there.
        max_response_bytes: a larger answer is a ``TransportError``.
        look_seconds: how often to look for the answer.

    Raises:
        ValueError: an argument cannot be used.
    """

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The PKIMessage that answers ``request``.

        Args:
            request: DER of a PKIMessage.
            timeout_seconds: how long to wait; None: the transport's ``message_timeout_seconds``.

        Raises:
            TimedOut: there is no answer yet; the same request takes it later.
            TransportError: the directory cannot be used, or the server did not take the file.
        """
        return run(self._exchange(request, timeout_seconds))

    def close(self) -> None:
        """Nothing to close."""


class AsyncFileTransport(_File):
    """``FileTransport`` for asyncio and trio, with the same arguments. Needs ``anyio`` (the extra ``async``).

    A send that is cancelled leaves its request in the directory, as one whose time is over does.
    """

    async def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The PKIMessage that answers ``request``; see ``FileTransport.send``."""
        return await run_async(self._exchange(request, timeout_seconds))

    async def close(self) -> None:
        """Nothing to close."""


def _parse(url: str) -> tuple[Path, str | None]:
    parts = urlsplit(url)
    if parts.scheme.lower() != "file" or parts.netloc not in {"", "localhost"} or parts.fragment:
        raise ValueError("the URL must be file:DIRECTORY, on this machine")
    path = unquote(parts.path)
    if not path or "\0" in path:
        raise ValueError("the URL names no directory")
    query = parse_qs(parts.query, strict_parsing=bool(parts.query))
    label = query.pop("label", [None])
    if query or len(label) != 1:
        raise ValueError("a file URL may end with ?label=LABEL and nothing else")
    return Path(path), label[0]
