"""CMP by e-mail, for threads and for event loops: requests go out by SMTP, answers are found in a Maildir.

The URL says all there is to know::

    mailto:cmp@ca.example?from=device@example&maildir=/home/device/Maildir&smtp=mail.example:587&security=starttls
        &user=device&password_file=/etc/cmp/password

``mail_message`` has the form of the mails. An answer that is there already is taken before anything is sent, so who gave up
waiting finds it by sending the same request again.

Source: RFC 2510, 5.3; RFC 9810, 7; RFC 6068.
"""

import contextlib
import math
from email.message import EmailMessage
from pathlib import Path
from time import monotonic
from urllib.parse import parse_qsl, unquote, urlsplit

from opensslcmp.errors import TimedOut, TransportError
from opensslcmp.transport.http1 import is_host
from opensslcmp.transport.mail_message import Mailer, compose, message_id, message_in, parse_letter
from opensslcmp.transport.mailbox import Unusable, read_regular
from opensslcmp.transport.pool import Called, Pause, Steps, run, run_async

__all__ = ["AsyncMailTransport", "MailTransport"]

_KEYS = frozenset({"from", "maildir", "smtp", "security", "user", "password_file"})


class _Mail:
    """What both transports are, apart from waiting."""

    def __init__(
        self,
        url: str,
        *,
        message_timeout_seconds: float = 60.0,
        max_response_bytes: int = 1024 * 1024,
        look_seconds: float = 0.5,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme.lower() != "mailto" or parts.netloc or parts.fragment:
            raise ValueError("the URL must be mailto:ADDRESS?from=ADDRESS&maildir=DIRECTORY")
        values = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        if unknown := values.keys() - _KEYS:
            raise ValueError(f"a mailto URL has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(_KEYS))}")
        self._to, self._from = unquote(parts.path), values.get("from", "")
        for name, address in (("the URL's address", self._to), ("from", self._from)):
            local, at, domain = address.rpartition("@")
            if not (at and local and is_host(domain) and address.isascii() and address.isprintable()):
                raise ValueError(f"{name} is not an address")
        if "maildir" not in values:
            raise ValueError("the URL names no maildir to find answers in")
        for name, value in (("message_timeout_seconds", message_timeout_seconds), ("look_seconds", look_seconds)):
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be finite and not negative")
        if max_response_bytes < 1:
            raise ValueError("max_response_bytes must be at least 1")
        host, _, port = values.get("smtp", "127.0.0.1:25").rpartition(":")
        if not is_host(host) or not port.isdigit():
            raise ValueError("smtp is not HOST:PORT")
        self._mailer = Mailer(
            host=host,
            port=int(port),
            security=values.get("security", "none"),  # type: ignore[arg-type]  # it looks itself
            user=values.get("user"),
            password_file=Path(values["password_file"]) if "password_file" in values else None,
        )
        self._maildir = Path(values["maildir"])
        self._timeout = message_timeout_seconds
        self._limit = max_response_bytes
        self._look = look_seconds
        self.url = f"mailto:{self._to}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _exchange(self, request: bytes, timeout_seconds: float | None) -> Steps[bytes]:
        deadline = monotonic() + (self._timeout if timeout_seconds is None else timeout_seconds)
        known: dict[str, str] = {}
        name = message_id(request, self._from)
        try:
            if (answer := self._find(name, known)) is not None:
                return answer
            letter = compose(request, self._from, self._to)
            yield Called(lambda: self._mailer.send(letter, self._from, self._to))
            while (answer := self._find(name, known)) is None:
                left = deadline - monotonic()
                if left <= 0:
                    unusable = next(filter(None, known.values()), "")
                    text = f"; one that came cannot be used: {unusable}" if unusable else ""
                    raise TimedOut(f"{self.url}: no answer yet; the same request finds one that comes later{text}")
                yield Pause(min(self._look, left))
            return answer
        except OSError as error:
            raise TransportError(f"{self.url}: {error.strerror or error}") from error

    def _find(self, name: str, known: dict[str, str]) -> bytes | None:
        """The answer to the mail of this name, which is then removed; ``known`` are files that are none, and why.

        Anybody may send a mail that says to be the answer. One without a message is passed over.
        """
        for directory in ("new", "cur"):
            for path in sorted((self._maildir / directory).iterdir()):
                if path.name in known:
                    continue
                letter = self._read(path)
                if letter is None or str(letter.get("In-Reply-To", "")).strip() != name:
                    known[path.name] = ""
                    continue
                try:
                    message = message_in(letter, self._limit)
                except Unusable as error:
                    known[path.name] = str(error)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                return message
        return None

    def _read(self, path: Path) -> EmailMessage | None:
        try:
            return parse_letter(read_regular(path, 2 * self._limit + 65536))
        except (Unusable, FileNotFoundError):
            return None  # somebody else's; not ours to remove


class MailTransport(_Mail):
    """Sends messages by mail and waits for the answers. May be used by several threads at once.

    Args:
        url: as above; ``from`` and ``maildir`` have to be there.
        message_timeout_seconds: how long to wait for an answer.
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
            TimedOut: there is no answer yet.
            TransportError: the mail was not taken, or the answer has no PKIMessage.
        """
        return run(self._exchange(request, timeout_seconds))

    def close(self) -> None:
        """Nothing to close."""


class AsyncMailTransport(_Mail):
    """``MailTransport`` for asyncio and trio, with the same arguments. Needs ``anyio`` (the extra ``async``)."""

    async def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The PKIMessage that answers ``request``; see ``MailTransport.send``."""
        return await run_async(self._exchange(request, timeout_seconds))

    async def close(self) -> None:
        """Nothing to close."""
