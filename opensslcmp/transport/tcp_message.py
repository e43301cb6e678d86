"""The TCP-messages that carry PKIMessages over TCP: bytes to bytes; no sockets.

A TCP-message is: length of what follows (4 bytes), version 10, flags, type, value. Its first form (RFC 2510) has neither
version nor flags; it is told by its type, which stands where the version does and is less than 10.

=========================  ====  =========================================================  ==============================
type                       from  value                                                      what it says
=========================  ====  =========================================================  ==============================
pkiReq                0    both  a PKIMessage                                               the request
pollRep               1    peer  reference (4 bytes), seconds (4)                           come back then
pollReq               2    us    reference (4)                                              is the answer there?
negPollRep, finRep    3    peer  one byte of zero                                           nothing is to be answered
partialMsgRep         4    peer  reference (4), seconds (4), a PKIMessage                   an answer; another one follows
finalMsgRep, pkiRep   5    peer  a PKIMessage                                               the answer
errorMsgRep           6    peer  error (2), length of data (2), data, text in UTF-8         there is no answer
=========================  ====  =========================================================  ==============================

Of the flags the lowest bit says that the sender closes the connection after this message.

Source: RFC 2510, 5.2; draft-ietf-pkix-cmp-transport-protocols-05, 3 (removed before RFC 6712).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from opensslcmp.errors import TransportError

__all__ = [
    "HEAD_BYTES",
    "VERSION",
    "TCPError",
    "TCPMessage",
    "TCPReader",
    "TCPType",
    "body_bytes",
    "decode",
    "error_message",
]

VERSION = 10
HEAD_BYTES = 5
"""Length and version, or length and type of the first form: what is read first."""

_CLOSE = 1
_MOST_TEXT = 400


class TCPType(IntEnum):
    """What a TCP-message is."""

    PKI_REQUEST = 0
    POLL_REPLY = 1
    POLL_REQUEST = 2
    FINISHED = 3
    PARTIAL_REPLY = 4
    PKI_REPLY = 5
    ERROR = 6


class TCPError(IntEnum):
    """What an errorMsgRep says; the first byte tells whose mistake it is."""

    VERSION_NOT_SUPPORTED = 0x0101
    GENERAL_CLIENT_ERROR = 0x0200
    INVALID_MESSAGE_TYPE = 0x0201
    INVALID_POLL_ID = 0x0202
    GENERAL_SERVER_ERROR = 0x0300


@dataclass(frozen=True, kw_only=True, slots=True)
class TCPMessage:
    """A TCP-message.

    Attributes:
        kind: its type, perhaps one that we do not know.
        value: after the type.
        close: the sender closes the connection after it.
        version: 10; 0 for the first form; another one when the peer speaks that.
    """

    kind: int
    value: bytes = b""
    close: bool = False
    version: int = VERSION

    def encode(self) -> bytes:
        """Its bytes."""
        if not self.version:
            return struct.pack(">IB", 1 + len(self.value), self.kind) + self.value
        flags = _CLOSE if self.close else 0
        return struct.pack(">IBBB", 3 + len(self.value), self.version, flags, self.kind) + self.value

    @property
    def message(self) -> bytes:
        """The PKIMessage in it; empty when the type has none."""
        if self.kind in {TCPType.PKI_REQUEST, TCPType.PKI_REPLY}:
            return self.value
        return self.value[8:] if self.kind == TCPType.PARTIAL_REPLY else b""

    @property
    def poll(self) -> tuple[bytes, int]:
        """Reference to poll for, and seconds to wait before that.

        Raises:
            TransportError: it is not as long as that.
        """
        if len(self.value) < 8:
            raise TransportError("a pollRep is too short")
        return self.value[:4], int.from_bytes(self.value[4:8], "big")

    @property
    def error(self) -> str:
        """What an errorMsgRep says, harmless on a terminal."""
        text = self.value
        code = ""
        if self.version:
            number, skip = struct.unpack(">HH", self.value[:4]) if len(self.value) >= 4 else (0, 0)
            code, text = f"{number:04x}", self.value[4 + skip :]
        words = "".join(each if each.isprintable() else " " for each in text[:_MOST_TEXT].decode("utf-8", "replace"))
        return ": ".join(filter(None, [code, words.strip()])) or "no reason given"


def body_bytes(head: bytes, limit: int) -> tuple[int, int]:
    """How many bytes follow the head, and the version, 0 for the first form.

    Args:
        head: the first five bytes.
        limit: of the value.

    Raises:
        TransportError: the length cannot be, or is beyond the limit; nothing of that has to be read then.
    """
    length, version = struct.unpack(">IB", head)
    legacy = version < VERSION
    least = 1 if legacy else 3
    if length < least:
        raise TransportError(f"a TCP-message cannot be {length} bytes long")
    if length - least > limit:
        raise TransportError(f"a TCP-message of {length} bytes is too long; {limit} are the limit")
    return length - 1, 0 if legacy else version


def decode(head: bytes, rest: bytes) -> TCPMessage:
    """A TCP-message from its head and what follows."""
    if head[4] < VERSION:
        return TCPMessage(kind=head[4], value=rest, version=0)
    return TCPMessage(kind=rest[1], value=rest[2:], close=bool(rest[0] & _CLOSE), version=head[4])


def error_message(error: TCPError, text: str, data: bytes = b"", *, version: int = VERSION) -> TCPMessage:
    """An errorMsgRep, after which the connection is closed."""
    words = text.encode()
    value = struct.pack(">HH", error, len(data)) + data + words if version else words
    return TCPMessage(kind=TCPType.ERROR, value=value, close=True, version=version)


class TCPReader:
    """Reads one TCP-message: ``feed`` it what arrives.

    Args:
        limit: bytes of the value.

    Attributes:
        started: something has been read.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self.started = False

    def feed(self, data: bytes) -> TCPMessage | None:
        """Take what arrived; the message once it is complete.

        Raises:
            TransportError: this is no TCP-message, or one that is too long, or more than one.
        """
        self.started = self.started or bool(data)
        self._buffer += data
        if len(self._buffer) < HEAD_BYTES:
            return None
        head = bytes(self._buffer[:HEAD_BYTES])
        left, _ = body_bytes(head, self._limit)
        if len(self._buffer) < HEAD_BYTES + left:
            return None
        if len(self._buffer) > HEAD_BYTES + left:
            raise TransportError("bytes follow the answer")
        return decode(head, bytes(self._buffer[HEAD_BYTES:]))

    def end(self) -> TCPMessage:
        """The peer has ended the connection.

        Raises:
            TransportError: always, since a TCP-message says how long it is.
        """
        raise TransportError(
            "the connection ended within the answer" if self.started else "the connection ended without an answer"
        )
