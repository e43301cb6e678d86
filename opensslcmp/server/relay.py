"""Messages that are passed on as they are, with an RA's protection around them, or many in one.

``Relay`` stands where a Responder would, and keeps no transaction: polling, confirmation and retransmission are between the
entity and the CA, which answers the entity itself, under the credential that the entity used.

=========  ===========================================================================================================
mode       what the CA gets
=========  ===========================================================================================================
forward    the bytes that came, once the gate let them through
nest       a nested message around one whose protection was verified and whose requests the inventory grants
batch      nested messages around those that came within a short time; only under ``handle_async``
=========  ===========================================================================================================

No message is changed, so whatever is sent again is the same message to the CA, which gives the answer that it gave. When the
CA cannot be reached the entity is told systemUnavail in an error message that is signed by the RA; over HTTP with 429 and
Retry-After, so that a client that can wait sends the same bytes again.

``client/nested.py`` has the steps as functions of messages.

Source: RFC 9483, 5.1 and 5.2.2; RFC 9810, 5.1.3.5.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from opensslcmp.asn1 import (
    NULL_DN,
    ErrorMsgContent,
    Limits,
    Message,
    PKIHeader,
    PKIStatusInfo,
    admit,
    directory_name,
    encode,
    header_der,
)
from opensslcmp.client.nested import add_protection, ask_in_batch
from opensslcmp.context.certificates import Trust
from opensslcmp.context.protection import (
    MacLimits,
    ProtectionKind,
    Protector,
    Verified,
    fresh_bytes,
    protect,
    protector_for,
    verify,
)
from opensslcmp.credentials import Signer
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage, ProtectionError, Rejected, TransportError
from opensslcmp.server.authority import CertificateRequest, Pending
from opensslcmp.server.enrollment import wishes_of
from opensslcmp.server.inventory import Inventory
from opensslcmp.server.nested import INNER
from opensslcmp.server.peer import Peer
from opensslcmp.server.rules import REQUESTS
from opensslcmp.server.secret_book import FoundSecret
from opensslcmp.server.throttle import Later
from opensslcmp.server.upstream import Upstream

__all__ = ["Relay", "requests_in"]

logger = logging.getLogger("opensslcmp.server")

_FORWARDED = frozenset(BodyType)
_UNREACHABLE = "the certification authority cannot be reached; try again later"


class Relay:
    """Passes messages on. May be used by several threads at once; stands where a Responder would.

    Args:
        upstream: the CA.
        signer: the RA's own credential: for errors, and for what is put around messages.
        mode: "forward", "nest" or "batch".
        secrets: finds the secrets of entities by reference, for "nest" and "batch"; None: no MAC is accepted.
        trust: whose certificates may sign; None: no signature is accepted.
        inventory: who gets what; it is asked in "nest" and "batch", and cannot change anything or wait.
        limits: of the gate.
        mac_limits: of MACs.
        batch_seconds, batch_messages: how long the first message of a batch waits for others, and for how many.
        retry_after_seconds: what an entity is told when the CA is not there.
        clock: seconds since 1970.

    Raises:
        ValueError: no such mode; neither ``secrets`` nor ``trust`` where messages are verified.
    """

    def __init__(
        self,
        upstream: Upstream,
        signer: Signer | Protector,
        *,
        mode: Literal["forward", "nest", "batch"] = "forward",
        secrets: Callable[[bytes], FoundSecret | None] | None = None,
        trust: Trust | None = None,
        inventory: Inventory | None = None,
        limits: Limits | None = None,
        mac_limits: MacLimits | None = None,
        batch_seconds: float = 0.05,
        batch_messages: int = 16,
        retry_after_seconds: int = 5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if mode not in {"forward", "nest", "batch"}:
            raise ValueError('mode is "forward", "nest" or "batch"')
        if mode != "forward" and secrets is None and trust is None:
            raise ValueError("secrets or trust are needed to verify what is passed on")
        if mode == "forward" and inventory is not None:
            raise ValueError('an inventory is for "nest" and "batch": what is only forwarded is not verified')
        self._upstream = upstream
        self._signer = protector_for(signer)
        self._mode = mode
        self._secrets = secrets
        self._trust = trust
        self._inventory = inventory
        self._limits = limits or Limits()
        self._mac_limits = mac_limits or MacLimits()
        self._batch_seconds = batch_seconds
        self._batch_messages = batch_messages
        self._retry_after = retry_after_seconds
        self._clock = clock
        self._waiting: list[tuple[Message, asyncio.Future[bytes]]] = []

    def close(self) -> None:
        """Close the connections upstream."""
        self._upstream.close()

    def handle(self, der: bytes, peer: Peer = Peer()) -> bytes:  # noqa: B008 -- immutable
        """The CA's answer to one message, or an error of ours. Never raises."""
        header: PKIHeader | None = None
        try:
            message = admit(bytes(der), limits=self._limits, accept=_FORWARDED if self._mode == "forward" else INNER)
            header = message.header
            if self._mode == "forward":
                return self._ask(message.der)
            self._admit(message, peer)
            if self._mode == "batch":
                return self._in_batch(message)
            return self._ask(add_protection(message, self._signer, self._clock()))
        except TransportError as error:
            logger.warning("the certification authority did not answer: %s", error)
            refused = BadMessage(FailureInfo.SYSTEM_UNAVAIL, _UNREACHABLE)
            return Later.after(self._error(refused, header), self._retry_after)
        except BadMessage as error:
            return self._error(error, header or error.header)
        except Rejected as error:
            refused = BadMessage(error.failure or FailureInfo.BAD_REQUEST, "; ".join(error.text) or "refused")
            return self._error(refused, header)
        except Exception:
            logger.exception("a message could not be passed on")
            return self._error(BadMessage(FailureInfo.SYSTEM_FAILURE, "the server failed; try again later"), header)

    def handle_async(self, der: bytes, peer: Peer = Peer()) -> Awaitable[bytes]:  # noqa: B008 -- immutable
        """As ``handle``, on the running event loop, which it does not block. Needs greenlet (extra ``server``)."""
        from opensslcmp.server.hub import Hub

        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def done(result: bytes | None, error: BaseException | None) -> None:
            if answer.cancelled():
                return
            if error is not None:
                answer.set_exception(error)
            elif result is not None:
                answer.set_result(result)

        Hub.here().start(partial(self.handle, der, peer), done)
        return answer

    def _ask(self, request: bytes) -> bytes:
        return self._upstream.pass_on(request)

    # -- what is verified ------------------------------------------------------------------------------------------

    def _admit(self, message: Message, peer: Peer) -> None:
        """Return when the message is from who it says, and asks for what the inventory grants.

        Raises:
            BadMessage, Rejected: it is refused.
        """

        def secret_of(reference: bytes) -> bytes | None:
            found = self._secrets(reference) if self._secrets is not None else None
            return None if found is None else found.value

        try:
            verified = verify(
                message,
                secrets=None if self._secrets is None else secret_of,
                trust=self._trust,
                limits=self._mac_limits,
                at=self._clock(),
                first_certificate=False,
                require_sender_kid=False,
            )
        except ProtectionError as error:
            logger.info("protection of a message refused: %s", error)
            raise BadMessage(error.failure, "the protection of the message is not accepted") from None
        if verified.kind is ProtectionKind.NONE:
            raise BadMessage(FailureInfo.WRONG_INTEGRITY, "the message is not protected")
        if self._inventory is not None and message.body_type in REQUESTS:
            for request in requests_in(message, verified, peer, self._clock()):
                decided = self._inventory.decide(request)
                if isinstance(decided, Pending):
                    raise Rejected(FailureInfo.SYSTEM_UNAVAIL, decided.text or "not decided yet; try again later")
                if decided.changes_template:
                    raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "the inventory grants another certificate")

    # -- batches ---------------------------------------------------------------------------------------------------

    def _in_batch(self, message: Message) -> bytes:
        from opensslcmp.server.hub import current_hub, settle

        if current_hub() is None:
            raise TypeError("batches are collected under handle_async only")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        taken = {each.transaction_id for each, _ in self._waiting}
        if message.transaction_id in taken:  # a batch has each transactionID once
            self._flush()
        self._waiting.append((message, answer))
        if len(self._waiting) >= self._batch_messages:
            self._flush()
        elif len(self._waiting) == 1:
            loop.call_later(self._batch_seconds, self._flush)
        return settle(answer)

    def _flush(self) -> None:
        from opensslcmp.server.hub import Hub

        waiting, self._waiting = self._waiting, []
        if not waiting:
            return

        def done(answers: tuple[bytes, ...] | None, error: BaseException | None) -> None:
            for number, (_, answer) in enumerate(waiting):
                if answer.done():
                    continue
                if error is not None or answers is None:
                    answer.set_exception(error or RuntimeError("a batch without answers"))
                else:
                    answer.set_result(answers[number])

        Hub.here().start(partial(self._send_batch, [each for each, _ in waiting]), done)

    def _send_batch(self, messages: list[Message]) -> tuple[bytes, ...]:
        """The answers to a batch.

        Raises:
            TransportError: there are none that can be believed.
            Rejected: it was refused as a whole.
        """
        return ask_in_batch(messages, self._signer, self._upstream.context, self._ask, self._limits, self._clock())

    # -- errors ----------------------------------------------------------------------------------------------------

    def _error(self, error: BadMessage, header: PKIHeader | None) -> bytes:
        logger.info("refused: %s", error)
        status = PKIStatusInfo.make(PKIStatus.REJECTION, error.text, failure=error.failure)
        answer_header = header_der(
            pvno=2,
            sender=encode(directory_name(self._signer.sender_name)),
            recipient=encode(directory_name(NULL_DN) if header is None else header.sender),
            second=int(self._clock()),
            transaction_id=None if header is None else header.transaction_id,
            sender_nonce=fresh_bytes(16),
            recip_nonce=None if header is None else header.sender_nonce,
        )
        return protect(answer_header, BodyType.ERROR, encode(ErrorMsgContent(pki_status_info=status)), self._signer)


def requests_in(message: Message, verified: Verified, peer: Peer, now: float) -> list[CertificateRequest]:
    """The certificate requests of a message, for an inventory; their proofs of possession are not verified.

    Raises:
        BadMessage: badDataFormat.
    """
    profiles = message.cert_profile
    return [
        CertificateRequest(
            kind=message.body_type,
            subject=wish.subject,
            public_key=wish.public_key or b"",
            extensions=wish.extensions,
            requester=verified,
            peer=peer,
            now=datetime.fromtimestamp(now, UTC),
            transaction_id=message.transaction_id or b"",
            cert_req_id=wish.request_id,
            cert_profile=profiles[min(position, len(profiles) - 1)] if profiles else None,
            message=message.der,
        )
        for position, wish in enumerate(wishes_of(message))
    ]
