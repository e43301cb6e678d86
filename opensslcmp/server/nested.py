"""nested: what a registration authority passes on, with its protection around it or as a batch.

One message whose transactionID the outer header repeats has had protection added: both protections are verified, and the
answer is the inner message's own. Anything else is a batch, also of one message (the rule ``one_message_is_no_batch``, off
by default, refuses that): every inner message is checked first, header, protection and
transaction, and one that fails spoils the batch before anything was done; then each is handled as if it had come alone,
and their answers go back in one nested message, in order.

Nothing is done twice when a batch is sent again: each inner message is then a retransmission and finds its answer.

Source: RFC 9810, 5.1.3.4; RFC 9483, 5.2.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from opensslcmp.asn1 import Message, encode_body
from opensslcmp.context.protection import Verified
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage
from opensslcmp.server.peer import Peer
from opensslcmp.server.rules import ACCEPTED, Check, Stage, adds_protection, short_hash
from opensslcmp.server.store import Change, Conflict, Store, Transaction, TransactionState
from opensslcmp.server.turn import Answer

__all__ = ["INNER", "Inside", "unwrap_nested"]

INNER = ACCEPTED - {BodyType.NESTED, BodyType.CCR}
"""What may stand inside."""


class Inside(Protocol):
    """What handling a nested message takes of the Responder."""

    def examine(self, message: Message, peer: Peer) -> Verified | None:
        """Who an inner message is from, when its header, protection and transaction are right; None: it was answered before.

        Raises:
            BadMessage: they are not.
        """

    def answer(self, message: Message, peer: Peer, *, batched: bool = False, verified: Verified | None = None) -> bytes:
        """The answer to an inner message, an error if need be.

        Args:
            batched: it came in a batch.
            verified: what ``examine`` said, so that no protection is verified twice.
        """

    def protect(self, answer: Answer) -> tuple[bytes, bytes]:
        """The answer to the outer message, protected, and its senderNonce."""


@dataclass(frozen=True, slots=True)
class _Batch:
    outer: Check
    inner: Sequence[Message]
    peer: Peer


def unwrap_nested(check: Check, store: Store, inside: Inside, retention_seconds: float) -> bytes:
    """The answer to a nested message whose own protection was verified.

    Raises:
        BadMessage: it is refused as a whole.
    """
    check.inner = check.message.nested(accept=INNER)
    check.profile.check(Stage.OPENING, check)
    check.profile.check(Stage.NESTED, check)
    peer = replace(check.peer, operation=None) if check.peer.operation == "nested" else check.peer
    if adds_protection(check):
        return inside.answer(check.inner[0], peer)
    return _batch(_Batch(check, check.inner, peer), store, inside, retention_seconds)


def _batch(batch: _Batch, store: Store, inside: Inside, retention_seconds: float) -> bytes:
    check = batch.outer
    message, now = check.message, check.now
    transaction_id = message.transaction_id or b""
    request_hash = hashlib.sha256(message.der).digest()
    known, response = store.look(transaction_id, request_hash)
    if response is not None:
        return response
    if known is not None:
        raise BadMessage(FailureInfo.TRANSACTION_ID_IN_USE, "this transactionID is in use")
    senders = [inside.examine(each, batch.peer) for each in batch.inner]
    answers = [
        inside.answer(each, batch.peer, batched=True, verified=sender)
        for each, sender in zip(batch.inner, senders, strict=True)
    ]
    # Claimed only now: another batch may hold this transactionID inside it, and wait for us.
    response, nonce = inside.protect(Answer(body_type=BodyType.NESTED, body=encode_body(BodyType.NESTED, answers)))
    done = Transaction(
        transaction_id=transaction_id,
        identity=check.verified.identity,
        algorithm=message.protection_algorithm or "",
        body_type=BodyType.NESTED,
        state=TransactionState.CLOSED,
        nonce=nonce,
        nonces=short_hash(message.sender_nonce or b""),
        deadline=0.0,
        expires=now + retention_seconds,
    )
    try:
        store.commit(Change(transaction=done, request_hash=request_hash, response=response, now=now))
    except Conflict:
        _, other = store.look(transaction_id, request_hash)
        if other is None:
            raise BadMessage(FailureInfo.TRANSACTION_ID_IN_USE, "this transactionID is in use") from None
        return other
    return response
