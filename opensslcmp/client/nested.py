"""Nested messages from the side of a registration authority: protection added to one message, or many in one.

``add_protection``, ``make_batch`` and ``take_apart`` are the steps, as functions of messages. ``NestingTransport`` and
``BatchTransport`` put them under sessions: whatever these send goes up inside nested messages, signed by the RA, and each
gets its own answer.

Source: RFC 9483, 5.2.2; RFC 9810, 5.1.3.5.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from opensslcmp.asn1 import Limits, Message, admit, directory_name, encode, encode_body, header_der
from opensslcmp.client.context import Context
from opensslcmp.context.protection import ProtectionKind, Protector, fresh_bytes, protect
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, CMPError, ProtectionError, Rejected, TimedOut, TransportError
from opensslcmp.transport import as_async_transport, as_transport

__all__ = [
    "AsyncBatchTransport",
    "AsyncNestingTransport",
    "BatchTransport",
    "NestingTransport",
    "add_protection",
    "ask_in_batch",
    "make_batch",
    "take_apart",
]


def add_protection(message: Message, protector: Protector, now: float) -> bytes:
    """A nested message (DER) around one, with its transactionID and senderNonce: the protection of an RA, added.

    Raises:
        OpenSSLError: the key does not sign.

    Source: RFC 9483, 5.2.2.1.
    """
    return _nested(
        [message.der], protector, now, message.transaction_id, message.sender_nonce, message.header.recipient
    )


def make_batch(messages: Sequence[Message], protector: Protector, now: float) -> bytes:
    """A nested message (DER) around several, in a transaction of its own.

    Raises:
        OpenSSLError: the key does not sign.

    Source: RFC 9483, 5.2.2.2.
    """
    recipient = messages[0].header.recipient
    return _nested([each.der for each in messages], protector, now, fresh_bytes(16), None, recipient)


def _nested(
    inner: list[bytes],
    protector: Protector,
    now: float,
    transaction_id: bytes | None,
    sender_nonce: bytes | None,
    recipient: Any,
) -> bytes:
    header = header_der(
        pvno=2,
        sender=encode(directory_name(protector.sender_name)),
        recipient=encode(recipient),
        second=int(now),
        transaction_id=transaction_id,
        sender_nonce=sender_nonce or fresh_bytes(16),
        recip_nonce=None,
    )
    return protect(header, BodyType.NESTED, encode_body(BodyType.NESTED, inner), protector)


def take_apart(batch: Message, answer: Message) -> tuple[bytes, ...]:
    """The answers (DER) to the messages of a batch, in their order.

    Args:
        answer: its protection was verified.

    Raises:
        Rejected: the batch was refused as a whole.
        BadMessage: the answer is none to this batch, or not one to each message in it.

    Source: RFC 9483, 5.2.2.2.
    """
    if answer.body_type is BodyType.ERROR:
        info = answer.content().pki_status_info
        raise Rejected(info.failures[0] if info.failures else None, *info.text, failures=info.failures)
    if answer.body_type is not BodyType.NESTED or answer.transaction_id != batch.transaction_id:
        raise BadMessage(FailureInfo.BAD_REQUEST, "the answer is none to this batch", answer.header)
    if answer.recip_nonce != batch.sender_nonce:
        raise BadMessage(FailureInfo.BAD_RECIPIENT_NONCE, "the answer repeats another nonce", answer.header)
    asked, answers = batch.nested(), answer.nested()
    ids = [(each.transaction_id, each.sender_nonce) for each in asked]
    if ids != [(each.transaction_id, each.recip_nonce) for each in answers]:
        raise BadMessage(
            FailureInfo.BAD_REQUEST, "the answers are not those to the messages of the batch", answer.header
        )
    return tuple(each.der for each in answers)


def ask_in_batch(
    messages: Sequence[Message],
    protector: Protector,
    context: Context,
    send: Callable[[bytes], bytes],
    limits: Limits,
    now: float,
) -> tuple[bytes, ...]:
    """The answers to a batch of messages, sent as one.

    Args:
        context: whom the answer is believed from.
        send: brings the answer to the nested message.

    Raises:
        TransportError: there are none that can be believed.
        Rejected: it was refused as a whole.
    """
    batch = admit(make_batch(messages, protector, now), limits=limits)
    return _answers(batch, send(batch.der), context, limits)


def _answers(batch: Message, answer: bytes, context: Context, limits: Limits) -> tuple[bytes, ...]:
    try:
        message = admit(answer, limits=limits)
        if context.verify(message).kind is ProtectionKind.NONE:
            raise ProtectionError("the answer to a batch is not protected", FailureInfo.WRONG_INTEGRITY)
        return take_apart(batch, message)
    except (Rejected, TransportError):
        raise
    except CMPError as error:
        raise TransportError(f"no valid answer to a batch: {error}") from error


# -- transports ----------------------------------------------------------------------------------------------------


def _signer(context: Context) -> Protector:
    protector = context.protector
    if protector is None or protector.kind is not ProtectionKind.SIGNATURE:
        raise ValueError("a nested message is signed: the context needs a certificate and a key")
    return protector


class NestingTransport:
    """Adds the protection of an RA to each message. May be used by several threads at once.

    Args:
        transport: the way to the CA: a ``Transport``, a function from bytes to bytes, or a URL.
        context: the RA's: its credential signs.

    Raises:
        ValueError: the context does not sign.

    Source: RFC 9483, 5.2.2.1.
    """

    def __init__(self, transport: Any, context: Context) -> None:
        self._way = as_transport(transport)
        self._protector = _signer(context)
        self._limits = context.limits

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The answer to ``request``, which is the CA's own.

        Raises:
            TransportError: there is none.
        """
        nested = add_protection(admit(request, limits=self._limits), self._protector, time.time())
        return self._way.send(nested, timeout_seconds)


class AsyncNestingTransport:
    """``NestingTransport`` for event loops, with the same arguments."""

    def __init__(self, transport: Any, context: Context) -> None:
        self._way = as_async_transport(transport)
        self._protector = _signer(context)
        self._limits = context.limits

    async def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The answer to ``request``; see ``NestingTransport.send``."""
        nested = add_protection(admit(request, limits=self._limits), self._protector, time.time())
        return await self._way.send(nested, timeout_seconds)


@dataclass(slots=True, eq=False)
class _Batch:
    """Messages that go together. Who sent the first of them sees to it that all are sent.

    Attributes:
        full, done: events, of threads or of an event loop.
    """

    full: Any
    done: Any
    messages: list[Message] = field(default_factory=list)
    answers: tuple[bytes, ...] = ()
    error: BaseException | None = None

    def answer(self, number: int) -> bytes:
        """The answer to the message of this number.

        Raises:
            Rejected, TransportError: there is none.
        """
        if isinstance(self.error, Rejected):
            raise Rejected(self.error.failure, *self.error.text, failures=self.error.failures)
        if self.error is not None:
            raise TransportError(f"the batch was not answered: {self.error}") from self.error
        return self.answers[number]


class _Batching:
    """What both transports are, apart from waiting."""

    def __init__(self, context: Context, batch_seconds: float, batch_messages: int) -> None:
        if not 1 <= batch_messages <= context.limits.max_nested_messages:
            raise ValueError(f"a batch has 1 to {context.limits.max_nested_messages} messages")
        self._context = context
        self._protector = _signer(context)
        self._seconds = batch_seconds
        self._most = batch_messages
        self._open: _Batch | None = None

    def _join(self, request: bytes, event: Callable[[], Any]) -> tuple[_Batch, int]:
        """The batch that takes a message, and its number there."""
        message = admit(request, limits=self._context.limits)
        batch = self._open
        if batch is None or message.transaction_id in {each.transaction_id for each in batch.messages}:
            if batch is not None:
                batch.full.set()  # a batch has each transactionID once
            batch = self._open = _Batch(event(), event())
        batch.messages.append(message)
        if len(batch.messages) >= self._most:
            self._close(batch)
        return batch, len(batch.messages) - 1

    def _close(self, batch: _Batch) -> None:
        if self._open is batch:
            self._open = None
        batch.full.set()

    def _packed(self, batch: _Batch) -> Message:
        return admit(make_batch(batch.messages, self._protector, time.time()), limits=self._context.limits)

    def _unpack(self, batch: _Batch, packed: Message, answer: bytes) -> None:
        batch.answers = _answers(packed, answer, self._context, self._context.limits)


class BatchTransport(_Batching):
    """Puts the messages that several threads send at the same time into one nested message. For any number of threads.

    Args:
        transport: the way to the CA: a ``Transport``, a function from bytes to bytes, or a URL.
        context: the RA's: its credential signs, and whom it trusts the answers are believed from.
        batch_seconds: how long the first message waits for others.
        batch_messages: for how many at most.

    Raises:
        ValueError: the context does not sign; so many messages do not go into one.

    Source: RFC 9483, 5.2.2.2.
    """

    def __init__(
        self, transport: Any, context: Context, *, batch_seconds: float = 0.05, batch_messages: int = 16
    ) -> None:
        super().__init__(context, batch_seconds, batch_messages)
        self._way = as_transport(transport)
        self._lock = threading.Lock()

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The answer to ``request``, which is the CA's own.

        Raises:
            Rejected: the batch was refused as a whole.
            TransportError, TimedOut: it was not answered.
        """
        with self._lock:
            batch, number = self._join(request, threading.Event)
        if number:
            if not batch.done.wait(timeout_seconds):
                raise TimedOut("the batch was not answered in time")
            return batch.answer(number)
        batch.full.wait(self._seconds)
        with self._lock:
            self._close(batch)
        try:
            packed = self._packed(batch)
            self._unpack(batch, packed, self._way.send(packed.der, timeout_seconds))
        except BaseException as error:
            batch.error = error
            raise
        finally:
            batch.done.set()
        return batch.answer(0)


class AsyncBatchTransport(_Batching):
    """``BatchTransport`` for the tasks of one event loop, of asyncio or trio. Needs ``anyio`` (the extra ``async``)."""

    def __init__(
        self, transport: Any, context: Context, *, batch_seconds: float = 0.05, batch_messages: int = 16
    ) -> None:
        super().__init__(context, batch_seconds, batch_messages)
        self._way = as_async_transport(transport)

    async def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        """The answer to ``request``; see ``BatchTransport.send``."""
        import anyio

        batch, number = self._join(request, anyio.Event)
        if number:
            with anyio.move_on_after(timeout_seconds) as scope:
                await batch.done.wait()
            if scope.cancelled_caught:
                raise TimedOut("the batch was not answered in time")
            return batch.answer(number)
        try:
            with anyio.move_on_after(self._seconds):
                await batch.full.wait()
            self._close(batch)
            packed = self._packed(batch)
            self._unpack(batch, packed, await self._way.send(packed.der, timeout_seconds))
        except BaseException as error:
            batch.error = error
            raise
        finally:
            self._close(batch)
            batch.done.set()
        return batch.answer(0)
