"""A transaction as the peer sees it: headers, protection, checks of every answer, and the waiting.

All messages of a transaction leave through ``Transaction.round_trip``: header -> protect -> send -> gate -> transactionID
and nonce -> protection -> body -> "waiting"? then poll. What comes back is final, authenticated and decoded.

The exchange *terminates* the peer's protection always: OpenSSL's CMP code sees an answer only where it must
decrypt something, as a copy of a body that was verified here (``context/enrollment.py``). Measured on 3.0.19, client's CPU of
an enrollment with a MAC against the same in C: 1.7 times with OpenSSL checking each answer a second time, 1.1 without. In
exchange, PBMAC1, EdDSA, RSA-PSS, any iteration count, senders of every kind and polling of every body type work on every
OpenSSL, nothing waits inside C, and what is published against its client code (a sender's name as format string,
CVE-2026-63073; extraCerts that stay, 63074; PBM parameters, 63076) cannot be reached by a peer.

A request of ours has sender CN=reference and senderKID in every body type, since every header is made here; OpenSSL alone
sends a NULL-DN in genm, rr and p10cr. It costs nothing: OpenSSL is told to send unprotected, so a MAC is made once.

Source: RFC 9810, 5.1 and 5.3.22; RFC 9483, 3 and 4.4.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import TracebackType
from typing import Any

from opensslcmp.asn1 import NULL_DN as _NULL_DN
from opensslcmp.asn1 import (
    CertRepMessage,
    ErrorMsgContent,
    InfoTypeAndValue,
    KemCiphertextInfo,
    Message,
    PKIStatusInfo,
    PollReq,
    RevRepContent,
    admit,
    assemble,
    decode,
    decode_info,
    directory_name,
    encode,
    encode_body,
    encode_info,
    header_parts,
    oids,
    protected_part,
    wrap,
)
from opensslcmp.client.context import Context
from opensslcmp.client.failover import deliver, may_come_again
from opensslcmp.client.journal import Entry, Journal, State
from opensslcmp.client.pending import Pending, StillWaiting
from opensslcmp.client.request import BY_DECRYPTION
from opensslcmp.context.certificates import facts, same_name
from opensslcmp.context.kem import KemProtector, KemSecret, encapsulate, verify_kem
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.library import Library
from opensslcmp.context.protection import MacProtector, ProtectionKind, Verified, fresh_bytes, protect
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage, CMPError, ProtectionError, Rejected, TimedOut, TransportError

__all__ = ["Answer", "Transaction", "Waits", "identity_of", "raise_unless_granted", "status_of"]


def _generate(kind: str, library: Library | None) -> PrivateKey:
    return PrivateKey.generate(kind, library=library)


@dataclass(frozen=True, slots=True)
class Waits:
    """The places where an operation waits. Called from one thread at a time.

    Attributes:
        exchange: carries a message to the peer and brings its answer, within so many seconds.
        sleep: waits so many seconds.
        now: a clock in seconds that never goes back.
        generate: makes a private key of a kind, in a library.
        others: as ``exchange``, to further servers that share the first one's state.
        journal: where transactions are written down; None for nowhere.
        record: writes an entry into the journal; on return it is on the disk.
    """

    exchange: Callable[[bytes, float], bytes]
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic
    generate: Callable[[str, Library | None], PrivateKey] = _generate
    others: tuple[Callable[[bytes, float], bytes], ...] = ()
    journal: Journal | None = None
    record: Callable[[Entry], None] | None = None

    def to(self, server: int, request: bytes, timeout_seconds: float) -> bytes:
        """The answer of the server with this number, 0 for the first."""
        return (self.others[server - 1] if server else self.exchange)(request, timeout_seconds)


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer.

    Attributes:
        message: as it came.
        content: its body, decoded.
        verified: who protected it.
    """

    message: Message
    content: Any
    verified: Verified


_ANSWERS = {
    BodyType.IR: BodyType.IP,
    BodyType.CR: BodyType.CP,
    BodyType.P10CR: BodyType.CP,
    BodyType.KUR: BodyType.KUP,
    BodyType.CCR: BodyType.CCP,
    BodyType.KRR: BodyType.KRP,
    BodyType.RR: BodyType.RP,
    BodyType.GENM: BodyType.GENP,
    BodyType.CERT_CONF: BodyType.PKICONF,
    BodyType.ERROR: BodyType.PKICONF,
    BodyType.POLL_REQ: BodyType.POLL_REP,
}
_GRANTED = frozenset((PKIStatus.ACCEPTED, PKIStatus.GRANTED_WITH_MODS))
_LAST_WORD_SECONDS = 5.0
# A genm asks, and changes nothing: whoever wants to know asks again.
_JOURNALED = frozenset((BodyType.IR, BodyType.CR, BodyType.P10CR, BodyType.KUR, BodyType.CCR, BodyType.RR))
_CERTIFICATES = frozenset((BodyType.IP, BodyType.CP, BodyType.KUP, BodyType.CCP))


@lru_cache(maxsize=256)
def _general_name(name: bytes) -> bytes:
    return encode(directory_name(name))


class _EncapsulateFirst(Exception):
    """The server protects its answers with a KEM key, and needs a ciphertext for it; ``chain`` is its certificate's path."""

    def __init__(self, chain: tuple[bytes, ...]) -> None:
        self.chain = chain


class Transaction:
    """One transaction, from its first request to its last answer; as a context manager it tells the peer when it breaks off.

    Args:
        waits: how to send and to wait.
        context: configuration.
        recipient: of its messages, when not the context's.
        pending: what it is about; one with a transactionID is taken up where it stands.
        wait: poll until the server has decided; else ``StillWaiting`` is raised.
        key: the private key as the journal keeps it: encrypted, and the name of where it is.
    """

    __slots__ = (
        "_answer",
        "_asked",
        "_closed",
        "_context",
        "_deadline",
        "_entry",
        "_kem",
        "_kem_info",
        "_kem_secret",
        "_nonces",
        "_open",
        "_patient",
        "_peer_nonce",
        "_pending",
        "_protector",
        "_pvno",
        "_recipient",
        "_recorded",
        "_refusal",
        "_salt",
        "_sent",
        "_server",
        "_signer",
        "_waiting",
        "_waits",
        "library",
        "transaction_id",
    )

    def __init__(
        self,
        waits: Waits,
        context: Context,
        *,
        recipient: bytes | None = None,
        pending: Pending | None = None,
        wait: bool = True,
        key: tuple[bytes | None, str | None] = (None, None),
    ) -> None:
        self._waits = waits
        self._context = context
        self._recipient = context.recipient if recipient is None else recipient
        self._deadline = waits.now() + context.total_timeout_seconds
        self._peer_nonce: bytes | None = None
        self._nonces: tuple[bytes, ...] = ()
        self._signer: tuple[bytes, ...] = ()
        self._sent = False
        self._open = False
        self._closed = False
        self._patient = wait
        self._server: int | None = None
        self._waiting: int | None = None
        self._pending = pending
        # What changes of it on the way stands here: to copy a Pending takes ten microseconds, and few are ever looked at.
        self._asked = BodyType.IR if pending is None else pending.asked
        self._answer = None if pending is None else pending.answer
        self._refusal = None if pending is None else pending.refusal
        self._entry = key
        self._recorded = False
        self._salt: bytes | None = None
        self._pvno = 3 if pending is not None and pending.popo in BY_DECRYPTION else 2
        self.transaction_id = pending.transaction_id if pending is not None else b""
        protector = None if context.unprotected_requests else context.protector
        self.library = context.library
        if pending is not None and pending.transaction_id:
            self._recipient, self._peer_nonce, self._nonces = pending.recipient, pending.peer_nonce, pending.nonces
            self._signer = () if pending.signer is None else (pending.signer,)
            self._salt, self._waiting = pending.salt, pending.waiting_for
            self._deadline = waits.now() + min(context.total_timeout_seconds, max(0.0, pending.deadline - time.time()))
            self._sent = self._recorded = True
            self._open = self._waiting is not None or pending.asked is BodyType.CERT_CONF
        else:
            self.transaction_id = fresh_bytes(16, context.library)
        self._kem: bytes | None = None
        self._kem_info: KemCiphertextInfo | None = None
        self._kem_secret: KemSecret | None = None
        if isinstance(protector, MacProtector):
            if self._salt is None:
                self._salt = protector.fresh_salt()
            protector = protector.of_one_transaction(self._salt)
        elif isinstance(protector, KemProtector) and pending is not None and pending.kem is not None:
            self._kem = pending.kem
            protector = protector.of_one_transaction(decode(KemCiphertextInfo, pending.kem), self.transaction_id)
        self._protector = protector
        if context.kem_chain:
            self._encapsulate(context.kem_chain)

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or not self._sent or kind is None or kind.__name__ == "GreenletExit":
            return
        if isinstance(error, StillWaiting):
            return
        if self._closed and isinstance(error, Exception):
            self._finish(State.FAILED, str(error))
            return
        if isinstance(error, (Rejected, TransportError)) and not (self._open and isinstance(error, TimedOut)):
            return
        if self._journaled and (isinstance(error, TimedOut) or not isinstance(error, Exception)):
            return  # it goes on when it is taken up again
        # Unanswered requests count as open when we are interrupted, but not when the answer was no answer.
        if self._open or not isinstance(error, Exception):
            with contextlib.suppress(Exception):
                self._last_word(error)
                self._finish(State.FAILED, str(error))

    def close(self) -> None:
        """The peer has nothing open any more."""
        self._open = False
        self._closed = True

    def abandon(self) -> None:
        """Tell the peer that nobody waits any more.

        Raises:
            TransportError: it did not hear.
        """
        self._last_word(KeyboardInterrupt())
        self._finish(State.FAILED, "abandoned")

    def give_up(self, error: BaseException) -> None:
        """Tell the peer why, where it has something open; whether it hears does not matter."""
        if self._open:
            with contextlib.suppress(Exception):
                self._last_word(error)

    def _last_word(self, error: BaseException) -> None:
        failure = error.failure if isinstance(error, (BadMessage, ProtectionError)) else None
        text = error.text if isinstance(error, BadMessage) else "the client broke off the transaction"
        content = ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.REJECTION, text, failure=failure))
        self._open = False
        message = self._message(BodyType.ERROR, encode_body(BodyType.ERROR, content))
        self._waits.to(self._server or 0, message, _LAST_WORD_SECONDS)

    # -- what is written down --------------------------------------------------------------------------------------

    @property
    def _journaled(self) -> bool:
        return self._waits.record is not None and self._pending is not None and self._pending.kind in _JOURNALED

    def snapshot(self, sent: BodyType, check_after_seconds: float = 0.0) -> Pending:
        """The transaction as it stands."""
        assert self._pending is not None
        deadline = self._pending.deadline or time.time() + self._context.max_wait_seconds
        protector = self._context.protector
        return replace(
            self._pending,
            transaction_id=self.transaction_id,
            server=self._context.shown_server,
            identity=b"" if protector is None else identity_of(protector.identity),
            deadline=deadline,
            check_after_seconds=check_after_seconds,
            asked=self._asked,
            answer=self._answer,
            refusal=self._refusal,
            waiting_for=self._waiting,
            sent=sent,
            nonces=self._nonces,
            peer_nonce=self._peer_nonce,
            signer=self._signer[0] if self._signer else None,
            salt=self._salt,
            kem=self._kem,
            recipient=self._recipient,
        )

    def holds(self, answer: bytes, refusal: str | None = None) -> None:
        """The certificate is here, in this message; what follows is its confirmation."""
        if self._pending is not None:
            self._answer, self._refusal, self._waiting = answer, refusal, None

    def held(self) -> None:
        """The certificate stays unconfirmed for now; what it takes to confirm it is written down."""
        self._record(self._asked, None, State.OPEN)

    def done(self, answer: bytes | None = None) -> None:
        """All went well; ``answer`` brought what the caller gets."""
        self._open = False
        if answer is not None and self._journaled:
            self._answer = answer
        self._finish(State.DONE)

    def _record(self, sent: BodyType, message: bytes | None, state: State, error: str | None = None) -> None:
        record = self._waits.record
        if record is None or not self._journaled or (state is not State.OPEN and not self._recorded):
            return
        pending = self.snapshot(sent)
        encrypted, source = self._entry
        record(
            Entry(
                transaction_id=self.transaction_id,
                state=state,
                label=pending.label,
                pending=pending.save(),
                message=message,
                key=encrypted,
                key_source=source,
                error=error,
            )
        )
        self._recorded = True

    def _finish(self, state: State, error: str | None = None) -> None:
        self._record(self._asked, None, state, error)

    # -- one message ---------------------------------------------------------------------------------------------

    def _message(
        self, body_type: BodyType, body: bytes, general_info: Sequence[InfoTypeAndValue] = (), pvno: int = 2
    ) -> bytes:
        context = self._context
        protector = self._protector
        nonce = fresh_bytes(16, context.library)
        if self._kem_info is not None:
            general_info = (*general_info, encode_info(oids.IT_KEM_CIPHERTEXT_INFO, self._kem_info))
        if self._kem_secret is not None or (protector is not None and protector.kind is ProtectionKind.KEM):
            pvno = 3
        before, after = header_parts(
            pvno=max(pvno, self._pvno),
            sender=_general_name(_NULL_DN if context.protector is None else context.protector.sender_name),
            recipient=_general_name(self._recipient),
            second=int(time.time()),
            transaction_id=self.transaction_id,
            sender_nonce=nonce,
            recip_nonce=self._peer_nonce,
            general_info=general_info,
        )
        self._nonces = (*self._nonces[:1], nonce)
        if protector is None:
            part = protected_part(wrap(0x30, before + after), body_type, body)
            return assemble(part, None, context.extra_certificates)
        return protect((before, after), body_type, body, protector, context.extra_certificates)

    def _remaining(self) -> float:
        remaining = self._deadline - self._waits.now()
        if remaining <= 0:
            raise TimedOut(f"the transaction took longer than {self._context.total_timeout_seconds:g} seconds")
        return remaining

    def _exchange(
        self,
        body_type: BodyType,
        body: bytes,
        accept: frozenset[BodyType],
        general_info: Sequence[InfoTypeAndValue] = (),
        pvno: int = 2,
    ) -> Answer:
        if self._protector is not None and self._protector.kind is ProtectionKind.KEM and self._kem is None:
            self._agree()
        request = self._message(body_type, body, general_info, pvno)
        self._record(body_type, request, State.OPEN)
        try:
            return self._send(request, accept)
        except _EncapsulateFirst as wanted:
            if self._kem_secret is not None or self._open:
                raise ProtectionError(
                    "the server asks for another KEM ciphertext", FailureInfo.WRONG_INTEGRITY
                ) from None
            self._finish(State.FAILED, "the server asks for a KEM ciphertext")
            chain = wanted.chain
        # A server that remembers transactionIDs has met this one.
        self.transaction_id, self._nonces, self._peer_nonce, self._kem = fresh_bytes(16, self.library), (), None, None
        self._protector = self._context.protector if self._protector is not None else None
        if isinstance(self._protector, MacProtector):
            self._protector = self._protector.of_one_transaction(self._salt)
        self._encapsulate(chain)
        return self._exchange(body_type, body, accept, general_info, pvno)

    # -- KEM-based MACs --------------------------------------------------------------------------------------------

    def _encapsulate(self, chain: tuple[bytes, ...]) -> None:
        """For the server, which protects its answers with what is in it (RFC 9810, appendix E)."""
        self._kem_info, secret = encapsulate(facts(chain[0]).spki, library=self.library)
        self._kem_secret = KemSecret(secret, self.transaction_id, chain)

    def _agree(self) -> None:
        """Ask for a KEM ciphertext, and protect what follows with what is in it (RFC 9810, appendix E).

        Neither message is protected: who puts in another ciphertext gets a request that nobody can verify.
        """
        context, own = self._context, self._context.protector
        assert isinstance(own, KemProtector)
        nonce = fresh_bytes(16, self.library)
        before, after = header_parts(
            pvno=3,
            sender=_general_name(own.sender_name),
            recipient=_general_name(self._recipient),
            second=int(time.time()),
            transaction_id=self.transaction_id,
            sender_nonce=nonce,
            recip_nonce=None,
        )
        body = encode_body(BodyType.GENM, [encode_info(oids.IT_KEM_CIPHERTEXT_INFO)])
        part = protected_part(wrap(0x30, before + after), BodyType.GENM, body)
        request = assemble(part, None, (*own.certificates, *context.extra_certificates))
        answer, self._server, _ = deliver(self._waits, context, request, self._remaining, self._server, 0)
        message = admit(answer, limits=context.limits, accept=frozenset((BodyType.GENP, BodyType.ERROR)))
        if message.transaction_id != self.transaction_id or message.recip_nonce != nonce:
            raise BadMessage(FailureInfo.BAD_REQUEST, "the KEM ciphertext belongs to another transaction")
        if isinstance(content := message.content(), ErrorMsgContent):
            raise ProtectionError(
                f"no KEM ciphertext; unauthenticated, the answer says: {Rejected(*_refusal(content.pki_status_info))}"
            )
        item = next((each for each in content if each.oid == oids.IT_KEM_CIPHERTEXT_INFO), None)
        info = None if item is None else decode_info(item)
        if item is None or info is None:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "the answer holds no KEM ciphertext")
        self._protector = own.of_one_transaction(info, self.transaction_id)
        self._kem, self._peer_nonce = item.value_der, message.sender_nonce
        if self._kem_secret is None and (chain := context.kem_server(message)):
            self._encapsulate(chain)

    def _verify_kem(self, message: Message) -> Verified:
        secret = self._kem_secret
        if secret is None:
            raise ProtectionError("a KEM-based MAC, and nothing was encapsulated", FailureInfo.BAD_MESSAGE_CHECK)
        if message.sender is None or not same_name(message.sender, facts(secret.chain[0]).subject):
            raise ProtectionError("sender is not the subject of the KEM certificate", FailureInfo.BAD_MESSAGE_CHECK)
        return verify_kem(message, secret, self.library)

    def _send(self, request: bytes, accept: frozenset[BodyType]) -> Answer:
        """The answer to a message, which may have been sent before: nothing but these bytes is ever sent in its place."""
        self._sent = True
        attempt = 0
        while True:
            answer, self._server, attempt = deliver(
                self._waits, self._context, request, self._remaining, self._server, attempt
            )
            message = admit(answer, limits=self._context.limits, accept=accept)
            if (
                message.body_type is BodyType.ERROR
                and message.protection is None
                and may_come_again(message.content(), self._context, attempt)
            ):
                continue  # nobody vouches for it, and all that it does is what a lost answer would do
            content, verified = self._check(message)
            if isinstance(content, ErrorMsgContent) and may_come_again(content, self._context, attempt):
                continue  # it was not processed, and its answer is none to follow
            break
        self._peer_nonce = message.sender_nonce
        self._kem_info = None
        if verified.certificate is not None and not self._context.no_cache_extra_certs:
            self._signer = (verified.certificate,)
        return Answer(message, content, verified)

    def _check(self, message: Message) -> tuple[Any, Verified]:
        if message.body_type is BodyType.ERROR and message.protection is None and not self._context.unprotected_errors:
            content = message.content()
            if FailureInfo.WRONG_INTEGRITY in content.pki_status_info.failures and (
                chain := self._context.kem_server(message)
            ):
                raise _EncapsulateFirst(chain)
            claim = Rejected(*_refusal(content.pki_status_info))
            raise ProtectionError(f"the answer is an error message without protection, which says: {claim}")
        # An error message for a request that could not be read echoes nothing (RFC 9483, 3.6.4).
        blind = message.body_type is BodyType.ERROR and message.protection is None
        if message.transaction_id != self.transaction_id and not (blind and message.transaction_id is None):
            raise BadMessage(FailureInfo.BAD_REQUEST, "the answer belongs to another transaction")
        # After polling a server may name the nonce of the first request (OpenSSL since 3.3).
        if message.recip_nonce not in self._nonces and not (blind and message.recip_nonce is None):
            raise BadMessage(FailureInfo.BAD_RECIPIENT_NONCE, "the answer's recipNonce is not our senderNonce")
        if self._peer_nonce is not None and message.sender_nonce == self._peer_nonce:
            raise BadMessage(FailureInfo.BAD_SENDER_NONCE, "the answer repeats a senderNonce")
        try:
            kem = None if self._kem_secret is None else self._verify_kem
            verified = self._context.verify(message, self._signer, kem)
            if verified.kind is ProtectionKind.NONE:
                raise ProtectionError("the answer is not protected", FailureInfo.WRONG_INTEGRITY)
        except ProtectionError as error:
            if not self._context.unprotected_errors or not _is_negative(message):
                raise _explained(error, message) from error.__cause__
            verified = Verified(kind=ProtectionKind.NONE)
        return message.content(), verified

    # -- a request and its final answer ----------------------------------------------------------------------------

    def round_trip(
        self, body_type: BodyType, content: Any, general_info: Sequence[InfoTypeAndValue] = (), pvno: int = 2
    ) -> Answer:
        """The final answer to a request, after as much polling as the server asks for.

        Args:
            body_type: of the request.
            content: its body, DER or as ``encode_body`` takes it.
            general_info: for its header.
            pvno: 3 where the body needs it.

        Raises:
            Rejected: the server answered with an error message.
            ProtectionError, BadMessage: the answer is not valid.
            TransportError, TimedOut: there is none.

        Source: RFC 9810, 5.3.22; RFC 9483, 4.4.
        """
        final = _ANSWERS[body_type]
        self._asked = body_type
        accept = self._accepted(final)
        # No frame that sleeps keeps a message: decoded it takes 3 kB, and thousands may sleep.
        return self._settled(
            final, self._exchange(body_type, encode_body(body_type, content), accept, general_info, pvno)
        )

    def ask(
        self,
        body_type: BodyType,
        content: Any,
        accept: frozenset[BodyType],
        general_info: Sequence[InfoTypeAndValue] = (),
    ) -> Answer:
        """The next answer to a message, of whatever is accepted; an error message only when it says "waiting".

        Raises:
            as ``round_trip``.
        """
        answer = self._exchange(body_type, encode_body(body_type, content), accept | {BodyType.ERROR}, general_info)
        self._open = True
        if answer.message.body_type is BodyType.ERROR and _waiting(answer) is None:
            self.close()
            failure, text, status, failures = _error(answer.content)
            raise Rejected(failure, *text, status=status, failures=failures)
        return answer

    def wait(self, check_after: int) -> None:
        """Sleep before asking again, as long as the server wants within the context's bounds.

        Raises:
            TimedOut: the time of the transaction is over.
        """
        self._waits.sleep(min(self._clamp(check_after), self._remaining()))

    def challenged(self, numbers: Sequence[int]) -> Answer:
        """The final answer to the request, after the challenge was answered with these numbers.

        Raises:
            as ``round_trip``.

        Source: RFC 9810, 5.2.8.3.3.
        """
        assert self._pending is not None
        final = _ANSWERS[self._asked]
        body = encode_body(BodyType.POPDECR, list(numbers))
        return self._settled(final, self._exchange(BodyType.POPDECR, body, frozenset((final, BodyType.ERROR))))

    def _accepted(self, final: BodyType) -> frozenset[BodyType]:
        accept = frozenset((final, BodyType.ERROR))
        challenge = self._pending is not None and self._pending.popo == "challenge"
        return accept | {BodyType.POPDECC} if challenge else accept

    def resumed(self, message: bytes | None = None) -> Answer:
        """The final answer that a transaction taken up again waits for.

        Args:
            message: the last one, to be sent once more as it is; None: the server is known to wait, and is polled.

        Raises:
            as ``round_trip``.
        """
        assert self._pending is not None
        final = _ANSWERS[self._asked]
        if message is None:
            return self._settled(final, self._poll(final))
        accept = self._accepted(final)
        if self._pending.sent is BodyType.POLL_REQ:
            accept |= {BodyType.POLL_REP}
        return self._settled(final, self._send(message, accept))

    def _poll(self, final: BodyType) -> Answer:
        if self._waiting is None:
            raise ValueError("the transaction does not wait for anything")
        content = encode_body(BodyType.POLL_REQ, [PollReq(cert_req_id=self._waiting)])
        return self._exchange(BodyType.POLL_REQ, content, frozenset((final, BodyType.ERROR, BodyType.POLL_REP)))

    def _settled(self, final: BodyType, answer: Answer | None) -> Answer:
        """The final answer, of which ``answer`` may be a forerunner."""
        polls = 0
        last = False
        while answer is not None:
            if answer.message.body_type is BodyType.POLL_REP:
                if last:
                    raise TimedOut(
                        f"the server was still waiting after {self._context.total_timeout_seconds:g} seconds"
                    )
                if len(answer.content) != 1 or answer.content[0].cert_req_id != self._waiting:
                    raise BadMessage(FailureInfo.BAD_REQUEST, "the pollRep is about another request")
                delay = self._clamp(answer.content[0].check_after)
                self._stop_if_nobody_waits(delay)
                remaining = self._remaining()
                if delay >= remaining:
                    # One last try shortly before the end, as OpenSSL does.
                    delay = remaining - min(10.0, remaining / 2)
                    last = True
                answer = None
                self._waits.sleep(delay)
            else:
                self._waiting = _waiting(answer)
                if self._waiting is None:
                    break
                self._open = True
                self._stop_if_nobody_waits(self._clamp(0))
                answer = None
                if polls:
                    # Still "waiting", and no word about when to ask again: not at once, or we would ask for an hour.
                    self._waits.sleep(min(self._clamp(0), self._remaining()))
            answer = self._poll(final)
            polls += 1
        assert answer is not None
        if answer.message.body_type is BodyType.ERROR:
            self.close()
            failure, text, status, failures = _error(answer.content)
            raise Rejected(failure, *text, status=status, failures=failures)
        self._open = final in _CERTIFICATES
        return answer

    def _stop_if_nobody_waits(self, check_after_seconds: float) -> None:
        if self._patient or self._pending is None:
            return
        # Taken up again it is polled, however long that takes, and not sent once more.
        self._record(self._asked, None, State.OPEN)
        raise StillWaiting(self.snapshot(self._asked, check_after_seconds))

    def _clamp(self, check_after: int) -> float:
        return max(self._context.min_poll_seconds, min(float(check_after), self._context.max_poll_seconds))


def _waiting(answer: Answer) -> int | None:
    """The certReqId to poll for, or None when this is a final answer."""
    content = answer.content
    if isinstance(content, CertRepMessage):
        if content.response and content.response[0].status.status == PKIStatus.WAITING:
            return content.response[0].cert_req_id
    elif isinstance(content, ErrorMsgContent) and content.pki_status_info.status == PKIStatus.WAITING:
        return -1
    return None


def identity_of(identity: bytes) -> bytes:
    """Who we are, as a ``Pending`` tells it: of a reference nothing is shown."""
    return hashlib.sha256(identity).digest()


def status_of(info: PKIStatusInfo) -> PKIStatus:
    """The status.

    Raises:
        BadMessage: a number that stands for none.
    """
    try:
        return PKIStatus(info.status)
    except ValueError:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"there is no PKIStatus {info.status}") from None


def raise_unless_granted(info: PKIStatusInfo) -> None:
    """Nothing, or the refusal.

    Raises:
        Rejected: any status but accepted and grantedWithMods.
    """
    status = status_of(info)
    if status not in _GRANTED:
        failures = info.failures
        raise Rejected(failures[0] if failures else None, *info.text, status=status, failures=failures)


def _error(content: ErrorMsgContent) -> tuple[FailureInfo | None, tuple[str, ...], PKIStatus, tuple[FailureInfo, ...]]:
    info = content.pki_status_info
    failures = info.failures
    text = (*info.text, *(content.error_details or ()))
    return failures[0] if failures else None, text, status_of(info), failures


def _refusal(info: PKIStatusInfo) -> tuple[Any, ...]:
    failures = info.failures
    return (failures[0] if failures else None, *info.text)


def _is_negative(message: Message) -> bool:
    """What OpenSSL's unprotected_errors is about: errors, refusals and pkiConf."""
    if message.body_type in {BodyType.ERROR, BodyType.PKICONF}:
        return True
    with contextlib.suppress(CMPError):
        content = message.content()
        if isinstance(content, CertRepMessage):
            return bool(content.response) and content.response[0].status.status == PKIStatus.REJECTION
        if isinstance(content, RevRepContent):
            return bool(content.status) and content.status[0].status == PKIStatus.REJECTION
    return False


def _explained(error: ProtectionError, message: Message) -> ProtectionError:
    """The same error, with what the untrusted message claims: most often that is the real reason."""
    if not _is_negative(message) or message.body_type is BodyType.PKICONF:
        return error
    content = message.content()
    if isinstance(content, ErrorMsgContent):
        info = content.pki_status_info
    else:
        info = content.status[0] if isinstance(content, RevRepContent) else content.response[0].status
    text = f"{error.args[0]}; unauthenticated, the answer says: {Rejected(*_refusal(info))}"
    return ProtectionError(text, error.failure)
