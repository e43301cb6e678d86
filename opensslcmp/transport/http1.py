"""HTTP/1.x as far as CMP needs it: one POST out, one answer in. Bytes to bytes; no sockets.

The answer is read strictly, since it comes from a stranger: every line must be what RFC 9112 allows, an answer whose
length can be understood in two ways is refused, and everything is bounded: the body by ``max_body``, all that
surrounds it (heads, interim answers, chunk sizes, trailers) by ``OVERHEAD_BYTES``, header lines by ``MAX_LINES``.

HTTP/1.1 with ``Connection: keep-alive`` is what goes out, so that a server of either version may keep the connection.
"""

import base64
import contextlib
import re
import time
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit

from opensslcmp.errors import TransportError

__all__ = [
    "MEDIA_TYPE",
    "Answer",
    "AnswerReader",
    "Target",
    "check_headers",
    "connect_request",
    "is_host",
    "message_of",
    "parse_url",
    "request_head",
    "status_text",
    "without_reuse",
]

MEDIA_TYPE = "application/pkixcmp"
# The second is what implementations of the drafts before RFC 6712 send (RFC 9811, 4).
MEDIA_TYPES = frozenset({MEDIA_TYPE, "application/pkixcmp-poll", "application/x-pkixcmp", "application/x-pkixcmp-poll"})
OVERHEAD_BYTES = 64 * 1024
MAX_LINES = 128

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
_FIELD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*")
_FIELDS = re.compile(rb"(?:\r\n" + _FIELD.pattern + rb")*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]{0,200})?")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HOST = re.compile(r"[A-Za-z0-9._~\-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._~\-]+)?")
_VISIBLE = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where a URL points. Its repr and ``str`` show no user and no password.

    Attributes:
        scheme: ``http`` or ``https``.
        host: DNS name or IP address, without brackets.
        port: 80 or 443 when the URL does not say.
        path: with the query, as it goes out.
        authorization: value of a header field made from the URL's user and password, or None.
    """

    scheme: str
    host: str
    port: int
    path: str
    authorization: str | None

    @property
    def authority(self) -> str:
        """Host and port, as the Host field has them: no port when it is the scheme's."""
        return self.host_text if self.port == _PORTS[self.scheme] else f"{self.host_text}:{self.port}"

    @property
    def host_text(self) -> str:
        """The host, in brackets when it is an IPv6 address."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    __repr__ = __str__


_PORTS = {"http": 80, "https": 443}


def parse_url(
    url: str,
    *,
    schemes: tuple[str, ...] = ("http", "https"),
    default_scheme: str = "http",
    default_port: int | None = None,
) -> Target:
    """Where ``url`` points. Without a scheme it is ``default_scheme``.

    Raises:
        ValueError: it is not such a URL, or has a blank or control character in it. The text does not repeat the URL,
            which may hold a password.

    Source: RFC 9811, 3.4; OSSL_HTTP_parse_url(3).
    """
    if not _VISIBLE.fullmatch(url):
        raise ValueError("a URL must be of visible ASCII characters")
    parts = urlsplit(url if "://" in url else f"{default_scheme}://{url}")
    scheme = parts.scheme.lower()
    if scheme not in schemes:
        raise ValueError(f"the URL's scheme must be {' or '.join(schemes)}, not {scheme}")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the URL's port is not a number from 1 to 65535") from None
    host = parts.hostname or ""
    if not is_host(host) or port == 0:
        raise ValueError("the URL has no usable host or port")
    authorization = None
    if parts.username is not None:
        userinfo = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(userinfo.encode()).decode()}"
    return Target(
        scheme=scheme,
        host=host,
        port=port or default_port or _PORTS[scheme],
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        authorization=authorization,
    )


def is_host(text: str) -> bool:
    """Whether ``text`` can be a DNS name or an IP address."""
    return _HOST.fullmatch(text) is not None


def request_head(target: Target, *, absolute: bool, keep_alive: bool, headers: list[tuple[str, str]]) -> bytes:
    """Everything of a POST up to the number of its Content-Length, which the caller appends with an empty line and
    the body.

    Args:
        target: where to.
        absolute: send the whole URL, as a proxy wants it.
        keep_alive: ask for the connection to be kept.
        headers: further fields.

    Raises:
        ValueError: a field's name or value could not be sent as one line.

    Source: RFC 9811, 3.1 and 3.2; RFC 9112, 3.2.
    """
    fields = [("Host", target.authority), ("Connection", "keep-alive" if keep_alive else "close")]
    fields += [("Content-Type", MEDIA_TYPE), ("Accept", MEDIA_TYPE)]
    if target.authorization:
        fields.append(("Authorization", target.authorization))
    where = str(target) if absolute else target.path
    return _head(f"POST {where} HTTP/1.1", [*fields, *headers]) + b"Content-Length: "


def connect_request(target: Target, proxy_authorization: str | None) -> bytes:
    """The request that asks a proxy for a tunnel to ``target`` (RFC 9110, 9.3.6)."""
    authority = f"{target.host_text}:{target.port}"
    fields = [("Host", authority)]
    if proxy_authorization:
        fields.append(("Proxy-Authorization", proxy_authorization))
    return _head(f"CONNECT {authority} HTTP/1.1", fields) + b"\r\n"


def check_headers(headers: list[tuple[str, str]]) -> None:
    """Look at fields that a caller adds.

    Raises:
        ValueError: one could not be sent as one line, or is ours to set. The text does not repeat the value.
    """
    ours = {"host", "connection", "content-type", "content-length", "transfer-encoding"}
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or name.lower() in ours:
            raise ValueError(f"{name!r} is not the name of a header field that can be added")
        if not value.isascii() or not value.isprintable():
            raise ValueError(f"the value of header field {name} has a character in it that cannot be sent")


def _head(line: str, fields: list[tuple[str, str]]) -> bytes:
    return "".join([line, "\r\n", *(f"{name}: {value}\r\n" for name, value in fields)]).encode("ascii")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A whole HTTP answer.

    Attributes:
        status: 200, 404, ...
        reason: the words after it, for people.
        headers: fields by lower-case name; several of one name are joined by a comma.
        body: without chunking.
        reusable: the connection may carry another request.
    """

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    reusable: bool


class AnswerReader:
    """Reads one answer: ``feed`` it what arrives until it returns an ``Answer``.

    Args:
        max_body: bytes of body to accept.
        tunnel: the request was CONNECT: a 2xx answer has no body.

    Attributes:
        started: something of the answer has been read.
    """

    def __init__(self, max_body: int, *, tunnel: bool = False) -> None:
        self._max_body = max_body
        self._tunnel = tunnel
        self._buffer = bytearray()
        self._searched = 0
        self._body = bytearray()
        self._overhead = 0
        self._head: tuple[int, str, dict[str, str], bool] | None = None
        self._framing: int | str = 0  # bytes of body, or "chunked", or "close"
        self._chunk_left: int | None = None  # None: a chunk-size line comes next
        self.started = False

    def feed(self, data: bytes) -> Answer | None:
        """Take what arrived; the answer once it is complete.

        Raises:
            TransportError: this is no HTTP answer, or a limit is exceeded.
        """
        self.started = self.started or bool(data)
        self._buffer += data
        while self._head is None:
            end = self._buffer.find(b"\r\n\r\n", self._searched)
            if end < 0:
                self._searched = max(0, len(self._buffer) - 3)
                self._spend(0, len(self._buffer))
                return None
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            self._searched = 0
            self._spend(end + 4)
            self._take_head(head)
        if isinstance(self._framing, int):
            if len(self._buffer) < self._framing:
                return None
            if self._tunnel and len(self._buffer) > self._framing:
                raise TransportError("bytes follow the proxy's answer to CONNECT")
            body = bytes(self._buffer[: self._framing])
            return self._answer(body, reusable=len(self._buffer) == self._framing)
        if self._framing == "chunked":
            return self._answer(bytes(self._body), reusable=not self._buffer) if self._dechunk() else None
        if len(self._buffer) > self._max_body:
            raise self._too_large()
        return None

    def end(self) -> Answer:
        """The server has ended the connection; the answer, when that is how it shows its end.

        Raises:
            TransportError: something is missing.
        """
        if self._head is not None and self._framing == "close":
            return self._answer(bytes(self._buffer), reusable=False)
        raise TransportError(
            "the connection ended within the answer" if self.started else "the connection ended without an answer"
        )

    def _take_head(self, head: bytes) -> None:
        first, _, _ = head.partition(b"\r\n")
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise TransportError(f"not an HTTP answer: {_excerpt(first)}")
        if head.count(b"\r\n") > MAX_LINES:
            raise TransportError(f"the answer has more than {MAX_LINES} header lines")
        # One look at all lines, then plain splitting: half the time of looking at each.
        if (fields := _FIELDS.match(head, len(first))) is None or fields.end() != len(head):
            wrong = next(line for line in head.split(b"\r\n")[1:] if not _FIELD.fullmatch(line))
            raise TransportError(f"not an HTTP header line: {_excerpt(wrong)}")
        headers: dict[str, str] = {}
        for line in head[len(first) + 2 :].decode("latin-1").split("\r\n") if len(first) < len(head) else ():
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip(" \t")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        status = int(match[2])
        if 100 <= status < 200:
            if status == 101:
                raise TransportError("the server switched protocols unasked")
            return
        options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
        keep = "close" not in options and (match[1] == b"1" or "keep-alive" in options)
        self._framing = self._framing_of(status, match[1] == b"1", headers)
        self._head = (status, (match[3] or b"").decode("latin-1"), headers, keep)

    def _framing_of(self, status: int, chunks: bool, headers: dict[str, str]) -> int | str:
        # RFC 9112, 6.3, with what it lets a client repair refused instead.
        if status in (204, 304) or (self._tunnel and 200 <= status < 300):
            return 0
        length = headers.get("content-length")
        if "transfer-encoding" in headers:
            if length is not None or not chunks or headers["transfer-encoding"].lower() != "chunked":
                raise TransportError("the answer's Transfer-Encoding cannot be trusted")
            return "chunked"
        if length is None:
            return "close"
        if not length.isascii() or not length.isdigit() or len(length) > 18:
            raise TransportError("the answer's Content-Length is not one number")
        if int(length) > self._max_body:
            raise self._too_large()
        return int(length)

    def _dechunk(self) -> bool:
        # One pass over the buffer by position, cut once at the end: many small chunks must not cost quadratic time.
        buffer, position = self._buffer, 0
        try:
            while True:
                if self._chunk_left is None or self._chunk_left < 0:
                    end = buffer.find(b"\r\n", position, position + 4096)
                    if end < 0:
                        if len(buffer) - position >= 4096:
                            raise TransportError("a line within the chunked answer is too long")
                        return False
                    line = bytes(buffer[position:end])
                    position = end + 2
                    self._spend(len(line) + 4)
                    if self._chunk_left is not None:  # the trailer: read and dropped, up to its empty line
                        if not line:
                            return True
                        if not _FIELD.fullmatch(line):
                            raise TransportError(f"not an HTTP trailer line: {_excerpt(line)}")
                        continue
                    match = _CHUNK_SIZE.fullmatch(line)
                    if match is None:
                        raise TransportError(f"not an HTTP chunk size: {_excerpt(line)}")
                    self._chunk_left = int(match[1], 16) or -1
                    if self._chunk_left > self._max_body - len(self._body):
                        raise self._too_large()
                    continue
                if len(buffer) - position < self._chunk_left + 2:
                    return False
                end = position + self._chunk_left
                if buffer[end : end + 2] != b"\r\n":
                    raise TransportError("a chunk of the answer does not end where it says")
                self._body += buffer[position:end]
                position = end + 2
                self._chunk_left = None
        finally:
            del buffer[:position]

    def _answer(self, body: bytes, *, reusable: bool) -> Answer:
        assert self._head is not None
        status, reason, headers, keep = self._head
        return Answer(status=status, reason=reason, headers=headers, body=body, reusable=keep and reusable)

    def _spend(self, count: int, pending: int = 0) -> None:
        self._overhead += count
        if self._overhead + pending > OVERHEAD_BYTES:
            raise TransportError(f"what surrounds the answer's body exceeds {OVERHEAD_BYTES} bytes")

    def _too_large(self) -> TransportError:
        return TransportError(f"the answer exceeds {self._max_body} bytes")


def without_reuse(answer: Answer) -> Answer:
    """The same answer, but its connection carries no other request."""
    return replace(answer, reusable=False)


def message_of(answer: Answer, *, announcement: bool = False) -> bytes:
    """The PKIMessage in an HTTP answer.

    Args:
        answer: what the server said, with whatever status: one in the 2xx, 4xx and 5xx ranges may carry a PKIMessage.
        announcement: 200, 201 and 202 without content are fine too and return ``b""``.

    Raises:
        TransportError: there is none. The text names the status, a redirect's location, or the beginning of what came
            instead.

    Source: RFC 9811, 3.1, 3.2 and 3.5.
    """
    status, body = answer.status, answer.body
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if 300 <= status < 400:
        location = _excerpt(answer.headers.get("location", "nowhere").encode("latin-1"))
        raise TransportError(f"{status_text(answer)}: redirects to {location}, and redirects are not followed")
    if body and media_type in MEDIA_TYPES:
        return body
    if announcement and not body and status in (200, 201, 202):
        return b""
    if not body:
        text = f"{status_text(answer)}: without content"
    else:
        text = (
            f"{status_text(answer)}: content is {_excerpt(media_type.encode('latin-1')) or 'of no type'}, "
            f"not {MEDIA_TYPE}: {_excerpt(body)}"
        )
    raise TransportError(text, http_status=status, retry_after_seconds=_retry_after(answer))


def _retry_after(answer: Answer) -> float | None:
    """Retry-After, which is seconds or a date (RFC 9110, 10.2.3)."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


def status_text(answer: Answer) -> str:
    """Status code and reason, harmless on a terminal."""
    return f"HTTP {answer.status} {_excerpt(answer.reason.encode('latin-1'))}".rstrip()


def _excerpt(data: bytes, length: int = 120) -> str:
    """The beginning of what a stranger sent, on one line and harmless on a terminal."""
    text = "".join(c if c.isprintable() else " " for c in data[: 4 * length].decode("utf-8", "replace"))
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[:length]}..."
