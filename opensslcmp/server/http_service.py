"""What CMP over HTTP means, without a socket: which path and method get what (RFC 9811). It knows nothing about certificates.

``App`` (ASGI) and ``FrontEnd`` (``opensslcmp serve``) both ask ``Routes``. First match first:

==============================================================  ===========================================
its path is none of ours                                        404
its path is a document, its method GET or HEAD                  200 and the document; 304, 404 without one
its method is not POST                                          405, Allow: POST
its Content-Type is not application/pkixcmp                     415
its body is longer than the limit, declared or while it comes   413
its body does not arrive in time                                408
its client goes away                                            nothing
the responder fails                                             500
the responder says that it was asked too often                  429, Retry-After, and the PKIMessage that says so
its store cannot be used, or it is closed: to who sent a MAC     503, Retry-After, and the PKIMessage that says so
anything else                                                   200 and the PKIMessage that the responder made,
                                                                which may well be an error message of CMP
==============================================================  ===========================================

The exception is an announcement, for which the responder returns no bytes: it gets 201 or 202 without a body, and 4xx or 5xx
where it is refused (``announcements``; RFC 9811, 3.5).
A body that is no PKIMessage, or not one for the operation in the path, is the responder's to answer: it is told the
operation in ``Peer.operation``.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import TypeAlias

from opensslcmp.server.announcements import Taken, Unheard
from opensslcmp.server.throttle import Later

__all__ = [
    "OLD_TYPES",
    "OPERATIONS",
    "PKIXCMP",
    "Content",
    "Document",
    "Place",
    "Reading",
    "Reply",
    "Routes",
    "answer_to",
    "plain",
]

OPERATIONS = frozenset(
    {
        "initialization",
        "certification",
        "keyupdate",
        "pkcs10",
        "revocation",
        "getcacerts",
        "getrootupdate",
        "getcertreqtemplate",
        "getcrls",
        "nested",
    }
)
"""The operation labels of RFC 9483, 6.1."""

PKIXCMP = b"application/pkixcmp"
"""The Content-Type of a PKIMessage (RFC 9811, 3.2)."""

OLD_TYPES = frozenset({b"application/pkixcmp-poll", b"application/x-pkixcmp", b"application/x-pkixcmp-poll"})
"""Content-Types that clients of earlier drafts send (RFC 9811, 4); the lenient profile takes them too."""

_ROOT = "/.well-known/cmp"
_TEXT = b"text/plain; charset=utf-8"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of HTTP.

    Attributes:
        status: its code.
        content_type: None without a body.
        body: its bytes.
        headers: further ones, names in lower case; ``connection: close`` ends the connection.
    """

    status: int
    content_type: bytes | None = None
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """What GET brings.

    Attributes:
        content: the bytes.
        content_type: of them; None: what the path has by default.
        made_at, good_until: seconds since 1970; None when it does not matter.
    """

    content: bytes
    content_type: bytes | None = None
    made_at: float | None = None
    good_until: float | None = None


Content: TypeAlias = bytes | Document | Reply | None
"""What is at a path: bytes, a document, a whole answer, or nothing yet (404)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A message may come here: label and operation of the path (RFC 9811, 3.4)."""

    label: str | None = None
    operation: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A document is to be read: ``answer()`` makes it, which may take time."""

    path: str
    make: Callable[[], Content]
    content_type: bytes
    known: bytes = b""

    def answer(self) -> Reply:
        """The document, or why it is not there. Never raises: what fails is logged."""
        try:
            content = self.make()
        except Exception:
            _log.exception("a document could not be made")
            return plain(500, "the server failed")
        if content is None:
            return plain(404, "there is none yet")
        if isinstance(content, Reply):
            return content
        if isinstance(content, bytes):
            return Reply(200, self.content_type, content)
        headers = tuple(_headers_of(content, time.time()))
        if dict(headers)[b"etag"] in [each.strip().removeprefix(b"W/") for each in self.known.split(b",")]:
            return Reply(304, headers=headers)
        return Reply(200, content.content_type or self.content_type, content.content, headers)


class Routes:
    """Which request gets what.

    Args:
        documents: what GET and HEAD bring, by path.
        crl: gives the current CRL in DER, or None when there is none; it is then served at ``crl_paths``.
        crl_paths: where.
        paths: further paths that mean the same as ``/.well-known/cmp``, such as ``/`` or ``/pkix/`` for old clients.
        max_request_bytes: longer bodies get 413.
        content_types: that mean the same as application/pkixcmp, such as ``OLD_TYPES``.
    """

    def __init__(
        self,
        *,
        documents: Mapping[str, Callable[[], Content]] | None = None,
        crl: Callable[[], Content] | None = None,
        crl_paths: Iterable[str] = ("/crl",),
        paths: Iterable[str] = (),
        max_request_bytes: int = 1 << 20,
        content_types: Iterable[bytes] = (),
    ) -> None:
        self.max_request_bytes = max_request_bytes
        self._types = frozenset({PKIXCMP, *content_types})
        self._paths = frozenset({_ROOT, *paths})
        self._documents: dict[str, tuple[Callable[[], Content], bytes]] = {"/healthz": (lambda: b"ok\n", _TEXT)}
        if crl is not None:
            self._documents |= dict.fromkeys(crl_paths, (crl, b"application/pkix-crl"))
        for path, make in (documents or {}).items():
            self._documents[path] = (make, _TEXT)

    def route(
        self, method: str, path: str, content_type: bytes, declared: bytes = b"", known: bytes = b""
    ) -> Reply | Reading | Place:
        """What a request gets, by its head alone.

        Args:
            method: as sent.
            path: without its query, percent-decoded.
            content_type, declared, known: Content-Type, Content-Length and If-None-Match, empty without.
        """
        if (document := self._documents.get(path)) is not None:
            if method not in {"GET", "HEAD"}:
                return plain(405, "this is to be read", (b"allow", b"GET, HEAD"))
            return Reading(path, *document, known)
        place = self._place(path)
        if place is None:
            return plain(404, "there is nothing at this path; CMP is at /.well-known/cmp")
        if method != "POST":
            return plain(405, "CMP is spoken by POST", (b"allow", b"POST"))
        if content_type != PKIXCMP and content_type.partition(b";")[0].strip().lower() not in self._types:
            return plain(415, "the Content-Type of CMP is application/pkixcmp", (b"accept-post", PKIXCMP))
        if declared.isdigit() and int(declared[:20]) > self.max_request_bytes:
            return self.too_long()
        return place

    def too_long(self) -> Reply:
        """To a body that is longer than the limit."""
        return plain(413, f"a message may have {self.max_request_bytes} bytes", (b"connection", b"close"))

    @staticmethod
    def too_slow() -> Reply:
        """To a request that did not arrive in time."""
        return plain(408, "the message did not arrive in time", (b"connection", b"close"))

    @staticmethod
    def failed() -> Reply:
        """To whom nothing can be said."""
        return plain(500, "the server failed")

    def _place(self, path: str) -> Place | None:
        """Label and operation of a path, or None when it is not ours (RFC 9811, 3.4)."""
        if path in self._paths:
            return Place()
        if not path.startswith(_ROOT + "/"):
            return None
        match path[len(_ROOT) + 1 :].split("/"):
            case [""]:
                return Place()
            case [operation] if operation in OPERATIONS:
                return Place(None, operation)
            case ["p", label] | ["p", label, ""] if label:
                return Place(label)
            case ["p", label, operation] if label and operation in OPERATIONS:
                return Place(label, operation)
        return None


def answer_to(answer: bytes) -> Reply:
    """A responder's answer as one of HTTP: no bytes are for an announcement (RFC 9811, 3.5)."""
    if type(answer) is bytes and answer:
        return Reply(200, PKIXCMP, answer)
    if isinstance(answer, Later):
        return Reply(answer.http_status, PKIXCMP, answer, ((b"retry-after", b"%d" % answer.retry_after_seconds),))
    if isinstance(answer, Unheard):
        return plain(answer.http_status, "the announcement is refused")
    return Reply(201 if isinstance(answer, Taken) else 202) if not answer else Reply(200, PKIXCMP, answer)


def plain(status: int, text: str, *headers: tuple[bytes, bytes]) -> Reply:
    """A line of text."""
    return Reply(status, _TEXT, text.encode() + b"\n", headers)


def _headers_of(document: Document, now: float) -> Iterator[tuple[bytes, bytes]]:
    """For caches: ask each time, since a document may change at once, but a copy does until it ends when we are down.

    Source: RFC 9110, 8.8; RFC 9111, 5.2.2; RFC 5861, 4.
    """
    yield b"etag", b'"%s"' % hashlib.sha256(document.content).hexdigest()[:32].encode()
    if document.made_at is not None:
        yield b"last-modified", formatdate(document.made_at, usegmt=True).encode()
    rest = b""
    if document.good_until is not None:
        yield b"expires", formatdate(document.good_until, usegmt=True).encode()
        rest = b", stale-if-error=%d" % max(0, int(document.good_until - now))
    yield b"cache-control", b"no-cache" + rest
