"""The whole server: one message in, one message out.

The way of a message through ``handle``:

1. The gate reads it. What is no PKIMessage gets a signed ``error``.
2. The store says what it knows of the transactionID. A byte-identical request gets the response it got before.
3. Rules of the header; then the protection is verified, which tells the credential; then rules about the requester.
4. The handler of the body checks its rules, asks the authority, and writes down what shall change.
5. The answer is protected as the request was. Response, transaction, certificates and revocations are committed
   together, and only then does the response leave.

What breaks a rule on the way is a ``BadMessage`` with a failInfo, and becomes an ``error`` message with the ids of the
request. It is kept for retransmissions when the requester was verified and the transaction is new or its own, unless it says
"later" (systemUnavail); a stranger leaves nothing behind. ``handle`` never raises.

Waiting happens in Store and Authority only, and no lock but the store's claim is held meanwhile.

What every message pays for is put together from DER: the header, the ip, the extensions; rules of generalInfo are not asked
about a message without one. Counted by callgrind, that took 9 % of the server's instructions for an enrollment by MAC with
explicit confirmation (3.60 to 3.28 million on OpenSSL 3.0, of which libcrypto has 1.43), 5 % of one by signature.

Source: RFC 9810, 5.1 to 5.3; RFC 9483, 3 and 4.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from cryptography.hazmat.asn1 import TLV

from opensslcmp.asn1 import (
    NULL_DN,
    ErrorMsgContent,
    KemBMParameter,
    Limits,
    Message,
    PKIHeader,
    PKIStatusInfo,
    admit,
    assemble,
    directory_name,
    encode,
    header_parts,
    is_general_name,
    protected_part,
    wrap,
)
from opensslcmp.client.announcements import ANNOUNCEMENTS, Announcement
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.kem import KemProtector
from opensslcmp.context.protection import (
    MacLimits,
    MacProtector,
    ProtectionKind,
    Protector,
    Verified,
    fresh_bytes,
    protect,
    protector_for,
    verify,
)
from opensslcmp.credentials import KemCredential, Signer
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import BadMessage, ProtectionError, Rejected
from opensslcmp.server.announcements import Ears, Unheard
from opensslcmp.server.authority import Authority, Publisher
from opensslcmp.server.delay import Handler, poll
from opensslcmp.server.enrollment import confirm, enroll
from opensslcmp.server.escrow import Escrow
from opensslcmp.server.events import Decision, Event, Observer, decision_of
from opensslcmp.server.information import inform
from opensslcmp.server.kem import Agreements, asks_for_ciphertext
from opensslcmp.server.key_generation import KeyGenerator
from opensslcmp.server.nested import unwrap_nested
from opensslcmp.server.peer import Peer
from opensslcmp.server.policy import LabelPolicy, Policy, Question, ask
from opensslcmp.server.possession import proven
from opensslcmp.server.recovery import recover
from opensslcmp.server.revocation import revoke
from opensslcmp.server.rules import (
    ACCEPTED,
    OPENING,
    PROOFS,
    REQUESTS,
    RFC9810,
    Check,
    Stage,
    ValidationProfile,
    is_ra,
    short_hash,
    signer_key,
)
from opensslcmp.server.secret_book import FoundSecret, Sealer
from opensslcmp.server.store import (
    CertificateRecord,
    CertificateState,
    Change,
    Conflict,
    Store,
    Transaction,
    TransactionState,
    Unavailable,
    certificate_key,
)
from opensslcmp.server.throttle import Later, Throttle, Throttled, claim_of
from opensslcmp.server.turn import Answer, Turn

__all__ = ["Responder"]

logger = logging.getLogger("opensslcmp.server")

_ATTEMPTS = 3
_SWEEP_BATCH = 100

# One text for each failInfo that tells of a credential, whatever the reason was.
_CREDENTIAL_TEXTS = {
    FailureInfo.BAD_MESSAGE_CHECK: "the protection of the message does not verify",
    FailureInfo.SIGNER_NOT_TRUSTED: "the signer is not trusted",
    FailureInfo.CERT_REVOKED: "the signer's certificate is not in force any more",
    FailureInfo.NOT_AUTHORIZED: "the signer is not authorised",
    FailureInfo.BAD_ALG: "the protection algorithm is not accepted",
    FailureInfo.WRONG_INTEGRITY: "this kind of protection is not accepted here",
}


@dataclass(slots=True)
class _Way:
    """How far a message got, so that an error on its way can be answered as well as possible, and told of.

    Attributes:
        answer: made for it last; None for a retransmission.
        turn: what was done; None for an error.
        verified_at, decided_at, committed_at: on the stopwatch, when somebody looks on.
    """

    header: PKIHeader | None = None
    message: Message | None = None
    profile: ValidationProfile | None = None
    protector: Protector | None = None
    verified: Verified | None = None
    transaction: Transaction | None = None
    nonce: bytes = b""
    ra: bool = False
    answer: Answer | None = None
    turn: Turn | None = None
    verified_at: float = 0.0
    decided_at: float = 0.0
    committed_at: float = 0.0


@dataclass(frozen=True, slots=True)
class _Outside:
    """Around a message: who protected the nested one, whether that is a batch, and who the message was found to be from."""

    verified: Verified | None = None
    batched: bool = False
    inner: Verified | None = None


_NOTHING_OUTSIDE = _Outside()
_MAY_WAIT: dict[BodyType, Handler] = {
    **dict.fromkeys(REQUESTS, enroll),
    BodyType.RR: revoke,
    BodyType.GENM: inform,
    BodyType.CERT_CONF: confirm,
}

_NOTHING = Transaction(
    transaction_id=b"",
    identity=b"",
    algorithm="",
    body_type=BodyType.ERROR,
    state=TransactionState.CLOSED,
    nonce=b"",
    nonces=b"",
    deadline=0.0,
    expires=0.0,
)


_NO_SECRET = FoundSecret(value=b"?")
_NOT_NOW_SECONDS = 5
"""What Retry-After says to who cannot be answered."""


class Responder:
    """Answers CMP requests for one authority. May be used by several threads at once.

    Args:
        authority: decides.
        store: remembers.
        signer: signs the answers to signed requests, and errors for strangers. A ``KemCredential`` signs nothing: who is not
            answered under a shared secret is told to encapsulate to it first.
        secrets: finds shared secrets by reference; None: no MAC is accepted.
        rotating: whether two secrets are accepted under some reference at present; then each MAC that does not verify is
            computed twice, whatever its reference, so that nobody learns from the time which references there are.
        trust: whose certificates may sign requests, or get a KEM ciphertext; None: no signature is accepted.
        kem: protects the answers to who sends a KEM ciphertext; by default ``signer`` when it is one.
        sealer: seals what is encapsulated to a requester until its transaction is over, ``Vault`` does; None: only this
            process goes on with such a transaction.
        profile: which rules are checked.
        proofs: which proofs of possession are accepted, of ``PROOFS``; an authority that has ``proofs`` accepts no others.
        cross_certification: which CAs may ask for cross-certification (ccr); None: nobody may.
        policy: who may ask; None: everybody with a credential that is known.
        labels: what each label in the path selects; another label is refused with badRequest. None: a label selects
            nothing, and the authority finds it in ``peer``.
        unlabelled: what a path without a label selects, and one with a label that selects nothing.
        registration_authorities: SHA-256 of certificates that may act for others, beside those that the authority
            issued with id-kp-cmcRA.
        ra_anchors: DER of certificates in ``trust``; id-kp-cmcRA counts in what stands below them too.
        limits: of the gate.
        mac_limits: of MACs.
        implicit_confirm: grant implicit confirmation to who asks for it.
        confirm_wait_seconds: how long a certificate may stay unconfirmed.
        wait_seconds: how long a requester may poll.
        retention_seconds: how long closed transactions are remembered, to answer retransmissions and refuse replays.
        sweep_seconds: how often ``handle`` looks for what is overdue.
        observe: is told of each message (``events``).
        throttle: says who asks too often, before anything is verified.
        announcements: who may announce something here, and who is told; None: nobody, and announcements are refused as
            any message is that is not for a server.
        key_generator: makes keys for who asks for one; None: nobody gets any.
        escrow: archives keys and gives them back to who asks (krr); None: nothing is archived, and a krr is refused.
        is_open: asked before each message; while it says False, all of them get systemUnavail, and nothing is done.
        clock: seconds since 1970.

    Raises:
        ValueError, OpenSSLError: the signer does not load.
    """

    def __init__(
        self,
        authority: Authority,
        store: Store,
        signer: Signer | KemCredential | Protector,
        *,
        kem: KemCredential | None = None,
        sealer: Sealer | None = None,
        secrets: Callable[[bytes], FoundSecret | None] | None = None,
        rotating: Callable[[], bool] | None = None,
        trust: Trust | None = None,
        cross_certification: Trust | None = None,
        profile: ValidationProfile = RFC9810,
        proofs: Iterable[str] = PROOFS,
        policy: Policy | None = None,
        labels: Mapping[str, LabelPolicy] | None = None,
        unlabelled: LabelPolicy | None = None,
        registration_authorities: Iterable[bytes] = (),
        ra_anchors: Iterable[bytes] = (),
        limits: Limits | None = None,
        mac_limits: MacLimits | None = None,
        implicit_confirm: bool = True,
        confirm_wait_seconds: float = 600.0,
        wait_seconds: float = 7 * 86400.0,
        retention_seconds: float = 86400.0,
        sweep_seconds: float = 5.0,
        observe: Observer | None = None,
        throttle: Throttle | None = None,
        announcements: Ears | None = None,
        key_generator: KeyGenerator | None = None,
        escrow: Escrow | None = None,
        is_open: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.authority = authority
        self._key_generator = key_generator
        self._escrow = escrow
        self.store = store
        self.profile = profile
        self.trust = trust
        self._proofs = frozenset(proofs) & frozenset(getattr(authority, "proofs", PROOFS))
        if unknown := set(proofs) - PROOFS:
            raise ValueError(f"no such proof of possession: {', '.join(sorted(unknown))}")
        self._policy = policy
        self._labels = labels
        self._unlabelled = unlabelled
        self._cross_certification = cross_certification
        self._ears = announcements
        self._accept = ACCEPTED if cross_certification is not None else ACCEPTED - {BodyType.CCR}
        if escrow is None:
            self._accept -= {BodyType.KRR}
        if announcements is not None:
            self._accept |= ANNOUNCEMENTS
        self._signer = protector_for(signer)
        kem_protector = self._signer if isinstance(self._signer, KemProtector) else None
        if kem is not None:
            kem_protector = KemProtector(kem)
        self._agreements = Agreements(sealer, kem_protector, wait_seconds + retention_seconds)
        self._secrets = secrets
        self._rotating = rotating
        self._ras = frozenset(registration_authorities)
        self._ra_anchors = frozenset([facts(each).fingerprint for each in ra_anchors])
        own = getattr(authority, "certificate", None) or next(iter(self._signer.certificates), None)
        self._issuer = None if own is None else (facts(own).subject, facts(own).spki)
        self._limits = limits or Limits()
        self._mac_limits = mac_limits or MacLimits()
        self._implicit_confirm = implicit_confirm
        self._confirm_wait_seconds = confirm_wait_seconds
        self._wait_seconds = wait_seconds
        self._retention_seconds = retention_seconds
        self._sweep_seconds = sweep_seconds
        self._observe = observe
        self._stopwatch: Callable[[], float] = time.perf_counter if observe is not None else float
        self._throttle = throttle
        self._is_open = is_open
        self._clock = clock
        methods = ("issue", "confirm", "revoke", "info")
        self._awaits = any(inspect.iscoroutinefunction(getattr(authority, name, None)) for name in methods)
        self._next_sweep = 0.0
        self._sweeping = threading.Lock()
        self._name = directory_name(self._signer.sender_name)
        self._name_der = encode(self._name)
        self._nobody = directory_name(NULL_DN)
        self._last_resort = self._unprotected_error()

    # -- the way of a message ------------------------------------------------------------------------------------

    def handle(self, der: bytes, peer: Peer = Peer()) -> bytes:  # noqa: B008 -- immutable
        """The answer to one message, DER to DER. Never raises; what fails inside is logged and answered.

        Args:
            der: whatever a peer sent.
            peer: what the transport knows of it.

        Source: RFC 9810, 5.1.
        """
        way = _Way()
        if self._observe is None:
            return self._answer(der, peer, way)
        began = self._stopwatch()
        answer = self._answer(der, peer, way)
        self._tell(way, peer, began)
        return answer

    def handle_async(self, der: bytes, peer: Peer = Peer()) -> Awaitable[bytes]:  # noqa: B008 -- immutable
        """As ``handle``, on the running event loop of asyncio; messages that are answered at once share a commit (``hub``).

        The methods of the authority may be coroutine functions. Once begun, a message is finished, whether or not
        anybody awaits its answer. Needs greenlet (extra ``server``).
        """
        from opensslcmp.server.hub import Hub

        return Hub.here().handle(self, der, peer)

    @property
    def protector(self) -> Protector:
        """Signs the answers to signed messages, and what is announced."""
        return self._signer

    def beside(self, store: Store, authority: Authority) -> Responder:
        """This Responder with another store and another authority, for as long as one message takes."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, store=store, authority=authority, _next_sweep=math.inf, _awaits=False)
        return other

    def sweep_is_due(self) -> bool:
        """``sweep`` is to be called; asked again, it is not for another ``sweep_seconds``."""
        now = self._clock()
        if not self._is_due(now):
            return False
        self._next_sweep = now + self._sweep_seconds
        return True

    def _is_due(self, now: float) -> bool:
        # A clock that was set back would otherwise keep us from sweeping until it is as late again.
        left = self._next_sweep - now
        return left <= 0 or self._sweep_seconds < left < math.inf

    def _answer(self, der: bytes, peer: Peer, way: _Way) -> bytes:
        try:
            if self._awaits:
                raise TypeError("the authority has coroutine functions: only handle_async awaits them")
            now = self._clock()
            if self._is_due(now):
                self._sweep_if_nobody_does(now)
            try:
                return self._take(bytes(der), peer, now, way)
            except Throttled as error:
                return Later.after(self._unprotected_error(error, way), error.retry_after_seconds)
            except Unavailable as error:
                return self._store_is_away(error, now, way)
            except BadMessage as error:
                way.header = way.header or error.header
                return self._error(error, now, way)
        except Exception:
            logger.exception("a message could not be handled")
        try:
            failed = BadMessage(FailureInfo.SYSTEM_FAILURE, "the server failed; try again later")
            return self._error(failed, self._clock(), way)
        except Exception:
            logger.exception("an error could not be protected")
            return self._last_resort

    def _store_is_away(self, error: Unavailable, now: float, way: _Way) -> bytes:
        logger.error("the store cannot be used: %s", error)
        return self._not_now("the server cannot work now; try again later", now, way)

    def _not_now(self, text: str, now: float, way: _Way) -> bytes:
        """systemUnavail. Who sent a MAC and is not verified could not check a signature, so he gets no protection, and over
        HTTP a status and the time to come again.
        """
        told = BadMessage(FailureInfo.SYSTEM_UNAVAIL, text)
        if way.protector is None and way.message is not None and way.message.mac is not None:
            return Later.after(self._unprotected_error(told, way), _NOT_NOW_SECONDS, http_status=503)
        return self._error(told, now, way)

    def _take(self, der: bytes, peer: Peer, now: float, way: _Way) -> bytes:
        message = admit(der, limits=self._limits, accept=self._accept)
        way.message, way.header = message, message.header
        if self._ears is not None and message.body_type in ANNOUNCEMENTS:
            return self._hear(message, peer, now, way)
        if self._is_open is not None and not self._is_open():
            return self._not_now("the server is closed for now; try again later", now, way)
        try:
            profile = way.profile = self._profile(peer)
        except BadMessage:
            self._choose_protector(Check(message, peer, now, self.profile), way)
            raise
        transaction_id = message.transaction_id
        if transaction_id is None:
            profile.check(Stage.HEADER, Check(message, peer, now, profile))
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "no transactionID")
        if message.protection is None and asks_for_ciphertext(message):
            return self._encapsulate(message, peer, now, way)
        if message.body_type is BodyType.NESTED:
            check = Check(message, peer, now, profile)
            self._identify(check, way)
            return unwrap_nested(check, self.store, _Inside(self, check, way), self._retention_seconds)
        return self._take_one(message, peer, now, way)

    def _hear(self, message: Message, peer: Peer, now: float, way: _Way) -> bytes:
        """Acknowledge an announcement. It belongs to no transaction, and nothing of it is kept here."""
        try:
            if self._is_open is not None and not self._is_open():
                raise BadMessage(FailureInfo.SYSTEM_UNAVAIL, "the server is closed for now; try again later")
            profile = way.profile = self._profile(peer)
            check = Check(message, peer, now, profile)
            profile.check(Stage.HEADER, check)
            self._verify(check)
            way.verified, way.verified_at = check.verified, self._stopwatch()
            check.listed = bool(check.verified.chain) and facts(check.verified.chain[0]).fingerprint in self._ras
            profile.check(Stage.REQUESTER, check)
            assert self._ears is not None
            answer = self._ears.take(
                Announcement(
                    kind=message.body_type, message=message, verified=check.verified, content=message.content()
                )
            )
        except Throttled:
            raise
        except BadMessage as error:
            return Unheard.because(error.failure, self._error(error, now, way))
        except Exception:
            logger.exception("an announcement could not be taken")
            failed = BadMessage(FailureInfo.SYSTEM_FAILURE, "the server failed; try again later")
            return Unheard.because(failed.failure, self._error(failed, now, way))
        way.answer, way.decided_at = Answer(body_type=message.body_type, body=b""), self._stopwatch()
        return answer

    def _take_one(
        self, message: Message, peer: Peer, now: float, way: _Way, outside: _Outside = _NOTHING_OUTSIDE
    ) -> bytes:
        transaction_id = message.transaction_id or b""
        request_hash = hashlib.sha256(message.der).digest()
        with self.store.claim(transaction_id):
            for _ in range(_ATTEMPTS):
                way.transaction, response = self.store.look(transaction_id, request_hash)
                if response is not None:
                    way.answer = way.turn = None
                    return response
                if self._overdue(way.transaction, now):
                    continue
                try:
                    return self._process(message, peer, now, way, request_hash, outside)
                except Conflict:
                    continue
        raise BadMessage(FailureInfo.SYSTEM_UNAVAIL, "the server is busy; try again later")

    def _encapsulate(self, message: Message, peer: Peer, now: float, way: _Way) -> bytes:
        """The genp without protection that brings a KEM ciphertext (RFC 9810, appendix E)."""
        check = Check(message, peer, now, self._profile(peer), kem_question=True)
        check.profile.check(Stage.HEADER, check)
        request_hash = hashlib.sha256(message.der).digest()
        place = self._agreements.place(message.transaction_id or b"")
        address, claim = peer.address, b""
        if self._throttle is not None:
            claim = claim_of(message)
            self._throttle.check(address, claim)
        with self.store.claim(place):
            known, response = self.store.look(place, request_hash)
            if response is not None:
                return response
            if known is not None or self.store.look(message.transaction_id or b"", b"")[0] is not None:
                raise BadMessage(FailureInfo.TRANSACTION_ID_IN_USE, "this transactionID is in use")
            if self._throttle is not None:
                self._throttle.failed(address, claim)  # until a message that it protects verifies
            try:
                check.verified = self._agreements.requester(message, self.trust, now)
                self._know_signer(check)
                check.profile.check(Stage.REQUESTER, check)
                way.nonce = fresh_bytes(16)
                body, remembered = self._agreements.encapsulate(message, check.verified, way.nonce, now)
            except ProtectionError as error:
                logger.info("no KEM ciphertext: %s", error)
                text = _CREDENTIAL_TEXTS.get(error.failure, "the certificate is not accepted")
                raise BadMessage(error.failure, text) from None
            way.answer, way.turn = Answer(body_type=BodyType.GENP, body=body), None
            response = self._unprotected(way.answer, now, way.header, way.nonce)
            try:
                self.store.commit(remembered(request_hash, response))
            except Conflict:
                raise BadMessage(FailureInfo.SYSTEM_UNAVAIL, "the server is busy; try again later") from None
        return response

    def _process(
        self, message: Message, peer: Peer, now: float, way: _Way, request_hash: bytes, outside: _Outside
    ) -> bytes:
        label = self._label(peer)
        implicit_confirm = label.implicit_confirm if label is not None else None
        check = Check(
            message,
            peer,
            now,
            self._profile(peer),
            transaction=way.transaction,
            outer=outside.verified,
            batched=outside.batched,
            key_generator=self._key_generator,
            escrow=self._escrow,
            proofs=self._proofs,
        )
        change = Change(transaction=_NOTHING, previous=way.transaction, request_hash=request_hash, now=now)
        turn = Turn(
            self.authority,
            self.store,
            check,
            now,
            self._implicit_confirm if implicit_confirm is None else implicit_confirm,
            self._confirm_wait_seconds,
            self._wait_seconds,
            change,
            label=label,
        )
        try:
            self._identify(check, way, outside.inner)
            way.verified_at = self._stopwatch()
            turn.sender = self._sender(way.protector or self._signer, way)
            answer = self._dispatch(turn)
        except BadMessage as error:
            if error.failure is FailureInfo.SYSTEM_UNAVAIL or not self._is_theirs(way, message):
                raise  # "later" is not for ever: the same message, sent again, is looked at anew
            # A transaction that is there stays as it is: whoever sent nonsense may still send sense.
            known = way.transaction
            change = turn.change = Change(transaction=_NOTHING, previous=known, request_hash=request_hash, now=now)
            turn.request = turn.pending = None
            turn.state, turn.issued, turn.deadline = TransactionState.CLOSED, (), 0.0
            if known is not None:
                turn.state, turn.issued, turn.deadline = known.state, known.certificates, known.deadline
                turn.request, turn.pending = known.request, known.pending
            response = self._error(error, now, way)
            nonce = known.nonce if known is not None else way.nonce
        else:
            response = self._protect(answer, now, way)
            nonce = way.nonce
            way.turn = turn
        way.decided_at = self._stopwatch()
        known = way.transaction
        change.transaction = Transaction(
            transaction_id=message.transaction_id or b"",
            identity=check.verified.identity,
            algorithm=known.algorithm if known else message.protection_algorithm or "",
            body_type=known.body_type if known else message.body_type,
            state=turn.state,
            nonce=nonce,
            nonces=(known.nonces if known else b"") + short_hash(message.sender_nonce or b""),
            certificates=turn.issued,
            deadline=turn.deadline,
            expires=now + self._retention_seconds,
            request=turn.request,
            pending=turn.pending,
            version=known.version + 1 if known else 1,
            label=known.label if known else (peer.label or "") if self._labels is not None else None,
        )
        change.response = response
        if "open_transactions_are_bounded" in check.profile:
            change.most_open = check.profile.max_open_per_credential
        self.store.commit(change)
        way.committed_at = self._stopwatch()
        if change.revocations or change.released:
            self._published()
        return response

    def _identify(self, check: Check, way: _Way, known: Verified | None = None) -> None:
        """Who sent the message.

        Args:
            known: who it was when the protection was verified before; only what may have changed since is looked up.
        """
        profile, message = check.profile, check.message
        way.profile = profile
        if isinstance(message.mac, KemBMParameter):
            check.agreement = self._agreements.agreed(self.store, message.transaction_id or b"")
        try:
            profile.check(Stage.HEADER, check)
        except BadMessage:
            self._choose_protector(check, way)
            raise
        if self._agreements.own is not None:
            way.protector = self._kem_protector(check)
        if known is not None:
            check.verified = known
            if known.kind is ProtectionKind.MAC:
                check.secret = self._secrets(known.reference or b"") if self._secrets else None
                if check.secret is not None and check.secret.previous is not None:
                    self._verify(check)  # by which of the two it was
        elif message.protection is None and check.batched and check.outer is not None:
            check.verified = check.outer  # the rule is off: who sent the batch speaks for what is in it
        else:
            self._verify(check)
        verified = check.verified
        if verified.kind is not ProtectionKind.MAC:
            self._know_signer(check)
            way.ra = check.ra
            way.protector = way.protector or self._signer
        elif way.protector is None:
            way.protector = self._mac_protector(check)
        if way.protector.kind is ProtectionKind.KEM:
            self._agreements.remember(message, verified, self.store, check.now)
        way.verified = verified
        profile.check(Stage.REQUESTER, check)
        if self._policy is not None or self._labels is not None or self._unlabelled is not None:
            self._may_ask(check)

    @staticmethod
    def _mac_protector(check: Check) -> MacProtector:
        verified = check.verified
        if check.secret is None or verified.mac is None or verified.reference is None:
            raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, _CREDENTIAL_TEXTS[FailureInfo.BAD_MESSAGE_CHECK])
        return MacProtector.answering(verified, check.secret.value)

    def _kem_protector(self, check: Check) -> KemProtector | None:
        """What protects the answer to who encapsulated something to us.

        Raises:
            BadMessage: badMessageCheck, it does not open; wrongIntegrity, nothing else protects answers, and there is none.
        """
        message = check.message
        try:
            protector = self._agreements.protector(message, self.store)
        except ProtectionError as error:
            logger.info("a KEM ciphertext refused: %s", error)
            raise BadMessage(error.failure, "the KEM ciphertext does not open") from None
        by_secret = message.mac is not None and not isinstance(message.mac, KemBMParameter)
        if protector is None and not by_secret and self._signer.kind is ProtectionKind.KEM:
            raise BadMessage(FailureInfo.WRONG_INTEGRITY, "encapsulate to this KEM certificate first")
        return protector

    def _choose_protector(self, check: Check, way: _Way) -> None:
        """Who knows a secret is told under it what is wrong with a header; nothing else is done for the message."""
        mac = check.message.mac
        if mac is None or check.message.protection is None or isinstance(mac, KemBMParameter):
            return
        with contextlib.suppress(BadMessage):
            self._verify(check)
            way.protector = self._mac_protector(check)

    def _verify(self, check: Check) -> None:
        """Whose protection it is, and under which secret."""
        found: list[FoundSecret | None] = []

        def secret_of(reference: bytes) -> bytes | None:
            secret = self._secrets(reference) if self._secrets else None
            found.append(secret)
            return secret.value if secret is not None else None

        def previous_of(_: bytes) -> bytes | None:
            given = found[0] or _NO_SECRET
            other = replace(
                given, value=given.previous or given.value, previous=None
            )  # the same work where there is none
            if found[0] is None or given.previous is None:
                return None
            found[0] = other
            return other.value

        address, claim = check.peer.address, b""
        if self._throttle is not None:
            claim = claim_of(check.message)
            self._throttle.check(address, claim)
        try:
            try:
                verified = self._verified_by(secret_of, check)
            except ProtectionError as error:
                wrong = bool(found) and error.failure is FailureInfo.BAD_MESSAGE_CHECK
                if not wrong or self._rotating is None or not self._rotating():
                    raise
                verified = self._verified_by(previous_of, check)
        except ProtectionError as error:
            logger.info("protection of a message refused: %s", error)
            if self._throttle is not None:
                self._throttle.failed(address, claim)
            text = _CREDENTIAL_TEXTS.get(error.failure, "the protection of the message is not accepted")
            raise BadMessage(error.failure, text) from None
        if verified.kind is ProtectionKind.NONE:
            raise BadMessage(FailureInfo.WRONG_INTEGRITY, "the message is not protected")
        if self._throttle is not None:
            self._throttle.accepted(address, claim)
        check.verified = verified
        check.secret = found[0] if found else None

    def _verified_by(self, secrets: Callable[[bytes], bytes | None], check: Check) -> Verified:
        return verify(
            check.message,
            secrets=secrets if self._secrets else None,
            trust=self._trust_for(check),
            kem=self._by_kem(check) if isinstance(check.message.mac, KemBMParameter) else None,
            limits=self._mac_limits,
            at=check.now,
            **check.profile.switches,
        )

    def _by_kem(self, check: Check) -> Callable[[Message], Verified]:
        """Whose KEM-based MAC it is."""
        trust = self._trust_for(check)
        return lambda message: self._agreements.verify(message, check.agreement, self.store, trust, check.now)

    def _know_signer(self, check: Check) -> None:
        """What is known here of the certificate that signed."""
        verified = check.verified
        key = signer_key(verified)
        check.signer = self.store.certificate(key) if key is not None else None
        if check.signer is not None and check.signer.certificate != verified.certificate:
            # Another CA that we trust has our name; or ours, its signature written otherwise, to pass for unknown.
            logger.info("a signer's certificate has issuer and serial number of one of ours")
            text = _CREDENTIAL_TEXTS[FailureInfo.SIGNER_NOT_TRUSTED]
            raise BadMessage(FailureInfo.SIGNER_NOT_TRUSTED, text)
        if len(verified.chain) > 2:
            self._refuse_strangers(verified)
        check.issued_here = len(verified.chain) > 1 and self._is_issuer(verified.chain[1])
        check.listed = facts(verified.chain[0]).fingerprint in self._ras
        check.ra = self._acts_for_others(verified)
        if (
            check.signer is not None
            and check.signer.state is CertificateState.UPDATING
            and check.message.body_type in OPENING
        ):
            check.signer = self._unless_over(check.signer, check.now)
        if check.signer is not None and check.signer.state is CertificateState.REVOKED:
            revoked = self.store.revocation(check.signer.key)
            check.signer_held = revoked is not None and revoked.reason is RevocationReason.CERTIFICATE_HOLD

    def _acts_for_others(self, verified: Verified) -> bool:
        """Whether who signed is an authorised registration authority."""
        chain = verified.chain
        issued_here = len(chain) > 1 and self._is_issuer(chain[1])
        delegated = issued_here or (bool(chain) and facts(chain[-1]).fingerprint in self._ra_anchors)
        return is_ra(verified, self._ras, delegated=delegated)

    def _is_issuer(self, certificate: bytes) -> bool:
        """Whether this certificate is for the key and the name that the authority issues with."""
        about = facts(certificate)
        return (about.subject, about.spki) == self._issuer

    def _label(self, peer: Peer) -> LabelPolicy | None:
        """What the label in the path selects, or the lack of one; None when it selects nothing.

        Raises:
            BadMessage: badRequest, there is no such label.
        """
        if self._labels is None or peer.label is None:
            return self._unlabelled
        label = self._labels.get(peer.label)
        if label is None:
            raise BadMessage(FailureInfo.BAD_REQUEST, "there is no such label")
        return label

    def _profile(self, peer: Peer) -> ValidationProfile:
        label = self._label(peer)
        return label.validation if label is not None and label.validation is not None else self.profile

    def _may_ask(self, check: Check) -> None:
        label = self._label(check.peer)
        begun = check.transaction
        question = Question(
            requester=check.verified,
            body_type=check.message.body_type if begun is None else begun.body_type,
            peer=check.peer,
            ra=check.ra,
            approved_by=check.outer if check.outer is not None and self._acts_for_others(check.outer) else None,
            now=check.now,
        )
        for policy in (self._policy, label.policy if label is not None else None):
            if policy is not None:
                try:
                    ask(policy, question)
                except Rejected as error:
                    text = "; ".join(error.text) or "not authorised to ask here"
                    raise BadMessage(error.failure or FailureInfo.NOT_AUTHORIZED, text) from error

    def _trust_for(self, check: Check) -> Trust | None:
        """Of cross-certification, from its request to its confirmation; else of everybody."""
        begun = check.transaction
        first = check.message.body_type if begun is None else begun.body_type
        if self._ears is not None and first in ANNOUNCEMENTS:
            return self._ears.trust
        return self._cross_certification if first is BodyType.CCR else self.trust

    def _refuse_strangers(self, verified: Verified) -> None:
        """Return when no CA on the signer's path has its certificate from us: who it certifies has no say here."""
        for each in verified.chain[1:-1]:
            about = facts(each)
            if self.store.certificate(certificate_key(about.issuer, about.serial_number)) is not None:
                raise BadMessage(FailureInfo.SIGNER_NOT_TRUSTED, _CREDENTIAL_TEXTS[FailureInfo.SIGNER_NOT_TRUSTED])

    def _dispatch(self, turn: Turn) -> Answer:
        body_type = turn.check.message.body_type
        if body_type in OPENING:
            if turn.check.transaction is not None:
                turn.check.profile.check(Stage.OPENING, turn.check)
                raise BadMessage(FailureInfo.TRANSACTION_ID_IN_USE, "this transactionID is in use")
            if body_type is BodyType.RR:
                return revoke(turn)
            if body_type is BodyType.KRR:
                return recover(turn)
            return inform(turn) if body_type is BodyType.GENM else enroll(turn)
        self._follow(turn.check)
        try:
            if body_type is BodyType.CERT_CONF:
                return confirm(turn)
            if body_type is BodyType.POPDECR:
                return proven(turn, enroll)
            return poll(turn, _MAY_WAIT) if body_type is BodyType.POLL_REQ else self._give_up(turn)
        except Rejected as error:
            raise BadMessage(error.failure or FailureInfo.BAD_REQUEST, "; ".join(error.text)) from error

    def _follow(self, check: Check) -> None:
        if check.transaction is None:  # whatever the profile says: nothing else can be checked without
            raise BadMessage(FailureInfo.BAD_REQUEST, "no such transaction")
        check.profile.check(Stage.FOLLOW_UP, check)

    def _give_up(self, turn: Turn) -> Answer:
        """Answer an error: the transaction is over, and what was not confirmed is revoked (RFC 9810, 5.3.21)."""
        turn.check.message.content()
        known = turn.check.begun
        turn.take_back(known)
        turn.issued = known.certificates
        turn.state = TransactionState.CLOSED if known.state.is_open else known.state
        return Answer(body_type=BodyType.PKICONF, body=b"\x05\x00")

    @staticmethod
    def _is_theirs(way: _Way, message: Message) -> bool:
        """The error may be kept: verified, and the transaction is new or begun by the same credential."""
        if way.verified is None:
            return False
        known = way.transaction
        if message.body_type in OPENING:
            return known is None
        return known is not None and known.identity == way.verified.identity and len(known.nonces) < 16 * 1000

    # -- answers -------------------------------------------------------------------------------------------------

    def _protect(self, answer: Answer, now: float, way: _Way) -> bytes:
        protector = way.protector or self._signer
        header = way.header
        way.answer, way.turn = answer, None
        way.nonce = fresh_bytes(16)
        if protector.kind is ProtectionKind.KEM and protector is self._signer:  # nobody has encapsulated anything
            return self._unprotected(answer, now, header, way.nonce)
        sender = self._sender(protector, way)
        answer_header = header_parts(
            pvno=header.pvno if header is not None and header.pvno in {2, 3} else 2,
            sender=sender,
            recipient=encode(self._back_to(header)) if way.message is None else way.message.sender_der,
            second=int(now),
            transaction_id=header.transaction_id if header is not None else None,
            sender_nonce=way.nonce,
            recip_nonce=header.sender_nonce if header is not None else None,
            general_info=answer.general_info,
        )
        extra = answer.extra_certs
        if protector is not self._signer:
            # Under a MAC too: the peer may need our certificates to check what we sign later.
            extra = tuple(dict.fromkeys((*self._signer.certificates, *extra)))
        return protect(answer_header, answer.body_type, answer.body, protector, extra)

    def _sender(self, protector: Protector, way: _Way) -> bytes:
        """Sender of an answer: a GeneralName in DER."""
        kind = protector.kind
        if kind is ProtectionKind.KEM or (
            kind is ProtectionKind.MAC and (way.profile or self.profile).switches["mac_sender"]
        ):
            return wrap(0xA4, protector.sender_name)
        return self._name_der

    def _unprotected(self, answer: Answer, now: float, header: PKIHeader | None, nonce: bytes) -> bytes:
        """An answer to who has to encapsulate, or decapsulate, something first; our KEM certificate comes along."""
        before, after = header_parts(
            pvno=header.pvno if header is not None and header.pvno in {2, 3} else 2,
            sender=self._name_der,
            recipient=encode(self._back_to(header)),
            second=int(now),
            transaction_id=header.transaction_id if header is not None else None,
            sender_nonce=nonce,
            recip_nonce=header.sender_nonce if header is not None else None,
        )
        own = self._agreements.own
        return assemble(
            protected_part(wrap(0x30, before + after), answer.body_type, answer.body),
            None,
            () if own is None else own.certificates,
        )

    def _back_to(self, header: PKIHeader | None) -> TLV:
        """Recipient of an answer: the sender, or nobody when that could not be read or is no name."""
        return header.sender if header is not None and is_general_name(header.sender) else self._nobody

    def _error(self, error: BadMessage, now: float, way: _Way) -> bytes:
        logger.info("refused: %s", error)
        status = PKIStatusInfo.make(PKIStatus.REJECTION, error.text, failure=error.failure)
        body = encode(ErrorMsgContent(pki_status_info=status))
        return self._protect(Answer(body_type=BodyType.ERROR, body=body, statuses=(status,)), now, way)

    def _unprotected_error(self, error: BadMessage | None = None, way: _Way | None = None) -> bytes:
        """What is left to say when an error cannot be protected, or who asks is not worth a signature."""
        failure = FailureInfo.SYSTEM_FAILURE if error is None else error.failure
        status = PKIStatusInfo.make(PKIStatus.REJECTION, *([error.text] if error else []), failure=failure)
        asked = way.header if way is not None else None
        header = PKIHeader(
            pvno=2,
            sender=self._name,
            recipient=self._back_to(asked),
            transaction_id=asked.transaction_id if asked is not None else None,
            sender_nonce=fresh_bytes(16),
            recip_nonce=asked.sender_nonce if asked is not None else None,
        )
        body = encode(ErrorMsgContent(pki_status_info=status))
        if way is not None:
            way.answer, way.turn = Answer(body_type=BodyType.ERROR, body=body, statuses=(status,)), None
        return assemble(protected_part(header, BodyType.ERROR, body), None)

    # -- who looks on --------------------------------------------------------------------------------------------

    def _tell(self, way: _Way, peer: Peer, began: float) -> None:
        """Tell of a message whose answer is about to leave."""
        end = self._stopwatch()
        message, header, verified, turn, answer = way.message, way.header, way.verified, way.turn, way.answer
        if answer is None:
            decision = Decision.REPLAYED
        elif turn is None and answer.body_type is BodyType.ERROR:
            decision = Decision.ERROR
        else:
            decision = decision_of(answer.statuses)
        verified_at, decided_at, committed_at = way.verified_at, way.decided_at, way.committed_at
        self._tell_observer(
            Event(
                time=self._clock(),
                peer=peer,
                decision=decision,
                body_type=message.body_type if message is not None else None,
                answer=answer.body_type if answer is not None else None,
                transaction_id=header.transaction_id if header is not None else None,
                requester=verified,
                claimed=header.sender_kid if header is not None else None,
                identity=verified.identity if verified is not None else b"",
                ra=way.ra,
                statuses=answer.statuses if answer is not None else (),
                seconds=end - began,
                verify_seconds=max(0.0, verified_at - began) if verified_at else 0.0,
                decide_seconds=max(0.0, decided_at - verified_at) if verified_at and decided_at else 0.0,
                store_seconds=max(0.0, committed_at - decided_at) if committed_at else 0.0,
                **(_changes(turn) if turn is not None else _Changes()),
            )
        )

    def _tell_observer(self, event: Event) -> None:
        if self._observe is not None:
            try:
                self._observe(event)
            except Exception:
                logger.exception("an observer failed")

    # -- time ----------------------------------------------------------------------------------------------------

    def sweep(self, now: float | None = None) -> int:
        """End the transactions whose time is up, revoke what was not confirmed, forget what is old.

        Called by ``handle`` now and then; a server that has nothing to handle calls it itself, every few seconds.

        Args:
            now: seconds since 1970, by default of the clock.

        Returns:
            How many transactions were ended.
        """
        now = self._clock() if now is None else now
        ended = 0
        for transaction in self.store.overdue(now, _SWEEP_BATCH):
            with self.store.claim(transaction.transaction_id):
                try:
                    self._end(transaction, now)
                    ended += 1
                except Conflict:  # another worker was faster
                    continue
                except Exception:  # the authority's; the others are ended all the same
                    logger.exception("a transaction whose time is up could not be ended")
        self.store.forget(now)
        return ended

    def _sweep_if_nobody_does(self, now: float) -> None:
        if not self._sweeping.acquire(blocking=False):
            return
        try:
            self._next_sweep = now + self._sweep_seconds
            self.sweep(now)
        except Exception:
            logger.exception("sweeping failed")
        finally:
            self._sweeping.release()

    def _overdue(self, transaction: Transaction | None, now: float) -> bool:
        """End this transaction when its time is up; True when it was, and is to be looked at again."""
        if transaction is None or not transaction.state.is_open or now < transaction.deadline:
            return False
        with contextlib.suppress(Conflict):
            self._end(transaction, now)
        return True

    def _unless_over(self, updating: CertificateRecord, now: float) -> CertificateRecord:
        """The record of a certificate, once updates of it whose time is up have been ended."""
        for successor in self.store.successors(updating.key):
            if successor.state is CertificateState.UNCONFIRMED:
                self._overdue(self.store.look(successor.transaction_id, b"")[0], now)
        return self.store.certificate(updating.key) or updating

    def _end(self, transaction: Transaction, now: float) -> None:
        change = Change(transaction=_NOTHING, previous=transaction, now=now)
        turn = Turn(self.authority, self.store, None, now, False, 0.0, 0.0, change)
        turn.take_back(transaction)
        change.transaction = replace(
            transaction,
            state=TransactionState.CLOSED,
            request=None,
            pending=None,
            expires=now + self._retention_seconds,
            version=transaction.version + 1,
        )
        self.store.commit(change)
        if change.revocations or change.released:
            self._published()
        if self._observe is not None:
            event = Event(
                time=now,
                peer=Peer(),
                decision=Decision.EXPIRED,
                transaction_id=transaction.transaction_id,
                identity=transaction.identity,
                **_changes(turn),
            )
            self._tell_observer(event)

    def _published(self) -> None:
        if isinstance(self.authority, Publisher):
            try:
                self.authority.publish()
            except Exception:
                logger.exception("revocations could not be published")

    def close(self) -> None:
        """Close the store."""
        self.store.close()


class _Changes(TypedDict, total=False):
    issued: tuple[int, ...]
    confirmed: tuple[int, ...]
    revoked: tuple[int, ...]
    released: tuple[int, ...]
    recovered: tuple[int, ...]


def _changes(turn: Turn) -> _Changes:
    """Serial numbers of the certificates that a turn changed, by the names that Event has for them."""
    change, serials = turn.change, turn.serials
    confirmed, released = [], []
    for key, before, after in change.states:
        if key in serials and before is CertificateState.UNCONFIRMED and after is CertificateState.VALID:
            confirmed.append(serials[key])
        elif key in serials and before is CertificateState.REVOKED and after is not CertificateState.REVOKED:
            released.append(serials[key])
    return {
        "issued": tuple(each.serial_number for each in change.certificates),
        "confirmed": tuple(confirmed),
        "revoked": tuple(each.serial_number for each in change.revocations),
        "released": tuple(released),
        "recovered": turn.recovered,
    }


@dataclass(frozen=True, slots=True)
class _Inside:
    """A Responder's way with the messages inside a nested one."""

    responder: Responder
    outer: Check
    way: _Way

    def examine(self, message: Message, peer: Peer) -> Verified | None:
        responder, now = self.responder, self.outer.now
        if message.transaction_id is None:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "no transactionID")
        request_hash = hashlib.sha256(message.der).digest()
        transaction, response = responder.store.look(message.transaction_id, request_hash)
        if response is not None:
            return None
        check = Check(
            message,
            peer,
            now,
            responder._profile(peer),
            transaction=transaction,
            outer=self.outer.verified,
            batched=True,
        )
        responder._identify(check, _Way(message=message, header=message.header))
        if message.body_type not in OPENING:
            responder._follow(check)
        elif transaction is not None:
            raise BadMessage(FailureInfo.TRANSACTION_ID_IN_USE, "this transactionID is in use")
        return check.verified

    def answer(self, message: Message, peer: Peer, *, batched: bool = False, verified: Verified | None = None) -> bytes:
        way = _Way(message=message, header=message.header)
        outside = _Outside(self.outer.verified, batched, verified)
        if self.responder._observe is None:
            return self._answer(message, peer, way, outside)
        began = self.responder._stopwatch()
        answer = self._answer(message, peer, way, outside)
        self.responder._tell(way, peer, began)
        self.way.answer = way.answer  # of added protection it is the whole answer, of a batch not yet
        return answer

    def _answer(self, message: Message, peer: Peer, way: _Way, outside: _Outside) -> bytes:
        now = self.outer.now
        try:
            return self.responder._take_one(message, peer, now, way, outside)
        except Unavailable as error:
            return self.responder._store_is_away(error, now, way)
        except BadMessage as error:
            return self.responder._error(error, now, way)
        except Exception:
            logger.exception("a message could not be handled")
        failed = BadMessage(FailureInfo.SYSTEM_FAILURE, "the server failed; try again later")
        return self.responder._error(failed, now, way)

    def protect(self, answer: Answer) -> tuple[bytes, bytes]:
        response = self.responder._protect(answer, self.outer.now, self.way)
        return response, self.way.nonce
