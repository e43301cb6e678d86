"""How messages travel: over HTTP, from files, and into files.

``Transfer`` is the ``transfer`` of a ``ClientContext``. A message read from a file is given the nonce, and if asked the
transactionID, of the running transaction, and protected anew; after an answer from a file, OpenSSL is told to expect the
nonce that it holds.

Source: openssl-cmp(1), -reqin, -reqout, -rspin, -rspout.
"""

from __future__ import annotations

import time
from pathlib import Path

from opensslcmp.asn1 import Message, admit
from opensslcmp.cli.cmp.arguments import Arguments, items
from opensslcmp.cli.exits import InputError
from opensslcmp.context.client import ClientContext
from opensslcmp.context.message import NativeMessage
from opensslcmp.errors import TimedOut
from opensslcmp.transport import Transport

__all__ = ["Saved", "Transfer"]


class Saved(Exception):
    """The first request is in the file of ``-reqout_only``: nothing more is to be done."""


class Transfer:
    """Carries one message and brings its answer.

    Args:
        arguments: the options.
        transport: to the server; None where all answers are in files.
        timeout_seconds: of one round trip.
        total_seconds: of a transaction.
    """

    def __init__(
        self, arguments: Arguments, transport: Transport | None, timeout_seconds: float, total_seconds: float
    ) -> None:
        self._transport = transport
        self._timeout = timeout_seconds
        self._total = total_seconds
        self._end = 0.0
        self._files = {name: items(arguments.text(name)) for name in ("reqin", "reqout", "rspin", "rspout")}
        self._from_files = bool(self._files["reqin"] or self._files["rspin"])
        self._only = arguments.path("reqout_only")
        self._new_id = arguments.has("reqin_new_tid")
        self._first = True
        self.context: ClientContext | None = None
        self.answer: Message | None = None

    def begin(self) -> None:
        """A transaction begins."""
        self._end = time.monotonic() + self._total

    def left(self) -> float:
        """Seconds until it must have ended."""
        return self._end - time.monotonic()

    def __call__(self, request: bytes) -> bytes:
        """The answer to one request, DER to DER.

        Raises:
            Saved: the request was all that was wanted.
            InputError: a file cannot be read or written.
            TransportError: no answer arrived.
        """
        if self._only is not None:
            _write(self._only, request)
            raise Saved
        if place := self._next("reqout"):
            _write(Path(place), request)
        if (place := self._next("reqin")) and not self._files["rspin"]:
            request = self._prepared(_read(place))
        if place := self._next("rspin"):
            answer = _read(place)
        elif self._transport is None:
            raise InputError("there are not enough files in -rspin, and no -server")
        else:
            left = self.left()
            if left <= 0:
                raise TimedOut("the time of -total_timeout is over")
            answer = self._transport.send(request, min(self._timeout, left))
        if place := self._next("rspout"):
            _write(Path(place), answer)
        self.answer = admit(answer)
        if self._from_files and self.context is not None:
            self.context.set_sender_nonce(self.answer.recip_nonce)
            self.context.set_transaction_id(self.answer.transaction_id)
        return answer

    def _next(self, name: str) -> str | None:
        files = self._files[name]
        return files.pop(0) if files else None

    def _prepared(self, der: bytes) -> bytes:
        """A request from a file, fit for the running transaction."""
        assert self.context is not None
        message = NativeMessage(der)
        first, self._first = self._first, False
        if self._new_id:
            message.update_transaction_id(self.context)
        if not first:
            message.update_recip_nonce(self.context)
        return message.encode()


def _read(place: str) -> bytes:
    try:
        return Path(place).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read a message: {error.strerror}: {place}") from None


def _write(place: Path, der: bytes) -> None:
    try:
        place.write_bytes(der)
    except OSError as error:
        raise InputError(f"cannot write a message: {error.strerror}: {place}") from None
