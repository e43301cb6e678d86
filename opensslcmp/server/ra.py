"""``RA``: an authority that asks another one. A Responder in front of it makes a registration authority.

The Responder verifies what entities send, holds their transactions, lets them wait and takes their confirmations, as it does
for a CA. For each certificate ``RA`` opens a transaction of its own with the CA upstream, under the RA's credential:

1. The inventory says whether this requester gets this certificate, and what is changed about it.
2. A request whose template stays as it is goes up with the proof of possession that the entity made, and a PKCS#10 request
   as it is. Anything else (a changed template, a kur, one of several requests in a message) becomes a cr or ir with the
   proof raVerified, and the entity's message in origPKIMessage, so that the CA can look at what was really asked.
3. What is sent is in the RA's store before (``upstream.Ledger``). "Waiting" upstream is "waiting" downstream, each by its
   own clock: an entity that polls early is answered without asking the CA.
4. With ``certconf="forward"`` the certificate stays unconfirmed upstream until the entity confirmed it, and what it refuses
   or lets lie is refused there too. With ``"own"`` the RA confirms at once, and revokes what the entity refuses.

A request is never made twice: who may have been heard is told the same bytes again. When the CA could not be reached at all
the entity is told systemUnavail; when it may have been, the entity waits, and each of its polls tries again.

What the CA refuses the entity is told with the CA's failInfo, unless that is about the RA itself (its credential, its clock,
its nonces): then the log has it, and the entity is told systemFailure.

Source: RFC 9483, 5.2.3; RFC 9810, 5.1.1.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from cryptography.hazmat.asn1 import Null as ASN1Null
from cryptography.hazmat.asn1 import Variant
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.asn1 import (
    CertReqMsg,
    CertRequest,
    CertTemplate,
    Extension,
    InfoTypeAndValue,
    Message,
    OptionalValidity,
    POPOSigningKey,
    SubjectPublicKeyInfo,
    admit,
    decode,
    elements,
    encode,
    encode_info,
    oids,
    outline,
    tlv,
    wrap,
)
from opensslcmp.asn1.certificate import time as asn1_time
from opensslcmp.client import operations
from opensslcmp.client.context import Context
from opensslcmp.client.journal import Entry, State
from opensslcmp.client.pending import Pending as ClientPending
from opensslcmp.client.results import Info
from opensslcmp.client.results import Issued as Received
from opensslcmp.enums import BodyType, FailureInfo, RevocationReason
from opensslcmp.errors import BadMessage, OpenSSLError, Rejected, TransportError
from opensslcmp.server.authority import CertificateRequest, InfoRequest, Issued, Pending, RevocationRequest
from opensslcmp.server.inventory import Grant, Inventory
from opensslcmp.server.store import Conflict, Store, certificate_key
from opensslcmp.server.upstream import Ledger, Page, Upstream, Writer, place_of

__all__ = ["RA", "certificate_request_body", "refusal_for_entity"]

logger = logging.getLogger("opensslcmp.server")

_SOON_SECONDS = 2
_NEXT_TRY = "the request is being handled; ask again"
_LATER = "the certification authority has not answered yet"
_ABOUT_US = frozenset(
    (
        FailureInfo.BAD_MESSAGE_CHECK,
        FailureInfo.BAD_TIME,
        FailureInfo.BAD_DATA_FORMAT,
        FailureInfo.WRONG_AUTHORITY,
        FailureInfo.WRONG_INTEGRITY,
        FailureInfo.BAD_RECIPIENT_NONCE,
        FailureInfo.BAD_SENDER_NONCE,
        FailureInfo.SIGNER_NOT_TRUSTED,
        FailureInfo.TRANSACTION_ID_IN_USE,
        FailureInfo.UNSUPPORTED_VERSION,
        FailureInfo.UNACCEPTED_POLICY,
    )
)
"""What a CA says about the message of the RA, and not about what the entity wants."""


@dataclass(frozen=True, slots=True)
class _Cached:
    infos: list[InfoTypeAndValue]
    until: float


def _certificate_place(transaction_id: bytes, number: int, public_key: bytes) -> bytes:
    """With the key, since a page outlives its transaction, and transactionIDs are the entities' choice."""
    return place_of(transaction_id, "certificate", number, public_key.hex())


class RA:
    """Asks a CA for each certificate. May be used by several threads at once, and under ``handle_async``.

    Args:
        context: who the RA is to the CA, whom it believes, where the CA is.
        store: of the Responder in front; what is under way upstream is kept there too.
        inventory: who gets what; None: whoever the Responder lets ask.
        transport, async_transport: as for ``Upstream``.
        certificate: DER of the CA's certificate; who holds one issued under it counts as issued here.
        ra_verified: "changed" keeps the entity's proof of possession where it can; "always" vouches for all.
        original: put the entity's message into origPKIMessage beside raVerified.
        certconf: "forward" the entity's confirmation, or confirm by our "own".
        check_after_seconds: when an entity is to ask again; None: when the CA wants to be asked.
        cache_seconds, max_cached: how long answers to genm are good, and how many are kept; 0 forwards each.
        keep_seconds: how long it is remembered what was asked upstream; longer than an entity may poll.
        clock: seconds since 1970.
    """

    proofs = frozenset(("signature", "raVerified"))
    """Of possession: what is proved by decryption only who encrypted it could tell."""

    def __init__(
        self,
        context: Context,
        store: Store,
        *,
        inventory: Inventory | None = None,
        transport: Any = None,
        async_transport: Any = None,
        certificate: bytes | None = None,
        ra_verified: Literal["changed", "always"] = "changed",
        original: bool = True,
        certconf: Literal["forward", "own"] = "forward",
        check_after_seconds: int | None = None,
        cache_seconds: float = 300.0,
        max_cached: int = 256,
        keep_seconds: float = 8 * 86400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if ra_verified not in {"changed", "always"}:
            raise ValueError('ra_verified is "changed" or "always"')
        if certconf not in {"forward", "own"}:
            raise ValueError('certconf is "forward" or "own"')
        self.context = context
        self.store = store
        self.certificate = certificate
        self._inventory = inventory
        self._upstream = Upstream(context, transport, async_transport)
        self._ledger = Ledger(store, keep_seconds, clock)
        self._vouch = ra_verified == "always"
        self._original = original
        self._forward = certconf == "forward"
        self._check_after = check_after_seconds
        self._cache_seconds = cache_seconds
        self._max_cached = max_cached
        self._cache: OrderedDict[tuple[str, bytes | None, str | None], _Cached] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._clock = clock

    def close(self) -> None:
        """Close the connections upstream. The store is the caller's."""
        self._upstream.close()

    # -- certificates ----------------------------------------------------------------------------------------------

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        """The certificate of the CA, or "later"."""
        place = _certificate_place(request.transaction_id, request.cert_req_id, request.public_key)
        page = self._ledger.find(place)
        hold = self._forward and not request.implicit_confirm
        if page is None:
            grant = Grant()
            if self._inventory is not None:
                decided = self._inventory.decide(request)
                if isinstance(decided, Pending):
                    return decided
                grant = decided
            changed = grant.text if grant.changes_template else None
            body_type, body, popo, info = certificate_request_body(
                request, grant, vouch=self._vouch, original=self._original
            )

            def ask(writer: Writer) -> Any:
                return operations.enroll_for(
                    self._upstream.waits(writer),
                    self.context,
                    body_type,
                    body,
                    request.public_key,
                    info,
                    popo=popo,
                    hold=hold,
                    wait=False,
                    label=changed,
                )
        else:
            entry = page.entry
            changed = ClientPending.load(entry.pending).label

            def ask(writer: Writer) -> Any:
                return operations.resume_entry(self._upstream.waits(writer), self.context, entry, wait=False, hold=hold)

        result = self._asked(place, page, ask)
        if isinstance(result, Pending):
            return result
        return _handed_on(result, changed)

    def _asked(self, place: bytes, page: Page | None, ask: Callable[[Writer], Any]) -> Any:
        """What the CA says, or a ``Pending`` for the entity.

        Raises:
            Rejected: for the entity.
        """
        if page is not None and page.entry.state is State.OPEN:
            left = page.ask_after - self._clock()
            if left > 0:
                return self._later(left, place)
        writer = self._ledger.writer(place, page)
        try:
            result = ask(writer)
        except Conflict:
            return self._later(_SOON_SECONDS, place, _NEXT_TRY)
        except TransportError as error:
            logger.warning("the certification authority did not answer: %s", error)
            if writer.sent:
                return self._later(_SOON_SECONDS, place)
            raise Rejected(
                FailureInfo.SYSTEM_UNAVAIL, "the certification authority cannot be reached; try again later"
            ) from None
        except Rejected as error:
            raise refusal_for_entity(error) from error
        except (BadMessage, OpenSSLError, ValueError) as error:
            logger.error("no valid answer from the certification authority: %s", error)
            raise Rejected(FailureInfo.SYSTEM_FAILURE, "the certification authority gave no valid answer") from error
        if isinstance(result, ClientPending):
            wait = max(1.0, result.check_after_seconds)
            entry = Entry(transaction_id=place, state=State.OPEN, pending=result.save())
            try:
                writer.record(entry, self._clock() + wait)
            except Conflict:
                return self._later(_SOON_SECONDS, place, _NEXT_TRY)
            return self._later(wait, place)
        return result

    def _later(self, seconds: float, place: bytes, text: str = _LATER) -> Pending:
        own = self._check_after
        return Pending(check_after_seconds=max(1, round(seconds)) if own is None else own, text=text, reference=place)

    def confirm(self, issued: Issued, accepted: bool) -> Pending | None:
        """The CA is told, or what it was told already is taken back."""
        place = self._place_of_certificate(issued.certificate)
        page = None if place is None else self._ledger.find(place)
        if place is None or page is None:
            if accepted:
                return None
            raise Rejected(FailureInfo.SYSTEM_FAILURE, "it is not known here how this certificate was asked for")
        entry = page.entry
        if entry.state is not State.OPEN:
            return None if accepted else self._take_back(place, issued.certificate)
        refused = None if accepted else Rejected(FailureInfo.INCORRECT_DATA, "the end entity did not take it")

        def ask(writer: Writer) -> Any:
            waits = self._upstream.waits(writer)
            if ClientPending.load(entry.pending).is_held:
                return operations.confirm_held(waits, self.context, entry, refused)
            return operations.resume_entry(waits, self.context, entry, wait=False)

        try:
            outcome = self._asked(place, page, ask)
        except Rejected as error:
            if accepted or FailureInfo.SYSTEM_UNAVAIL in error.failures:
                raise
            logger.warning("the certification authority did not want to hear of a certificate nobody took: %s", error)
            return None
        return _unless_needed(outcome, accepted)

    def _take_back(self, place: bytes, certificate: bytes) -> Pending | None:
        """Revoke upstream what was confirmed there."""
        serial_number, issuer, *_ = outline(certificate)
        return self._revoke(place_of(place, "taken back"), issuer, serial_number, RevocationReason.UNSPECIFIED, True)

    def _place_of_certificate(self, certificate: bytes) -> bytes | None:
        serial_number, issuer, _, _, public_key = outline(certificate)
        key = certificate_key(issuer, serial_number)
        record = self.store.certificate(key)
        if record is None:
            return None
        transaction, _ = self.store.look(record.transaction_id, b"")
        for number, each in () if transaction is None else transaction.certificates:
            if each == key:
                return _certificate_place(record.transaction_id, number, public_key)
        return None

    # -- revocation ------------------------------------------------------------------------------------------------

    def revoke(self, request: RevocationRequest) -> Pending | None:
        """The CA revokes it, or "later"."""
        place = place_of(request.transaction_id, "revocation", request.issuer.hex(), request.serial_number)
        return self._revoke(place, request.issuer, request.serial_number, request.reason)

    def _revoke(
        self, place: bytes, issuer: bytes, serial_number: int, reason: RevocationReason, needed: bool = False
    ) -> Pending | None:
        page = self._ledger.find(place)
        if page is not None and page.entry.state is State.DONE:
            return None

        def ask(writer: Writer) -> Any:
            waits = self._upstream.waits(writer)
            if page is not None:
                return operations.resume_entry(waits, self.context, page.entry, wait=False)
            return operations.revoke(
                waits, self.context, issuer=issuer, serial_number=serial_number, reason=reason, wait=False
            )

        try:
            outcome = self._asked(place, page, ask)
        except Rejected as error:
            if needed and error.failure is FailureInfo.CERT_REVOKED:
                return None
            raise
        return _unless_needed(outcome, not needed)

    # -- information -----------------------------------------------------------------------------------------------

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue] | Pending:
        """What the CA says, or said a short while ago."""
        key = (request.oid, request.value, request.cert_profile)
        if (known := self._known(key)) is not None:
            return known
        waits = self._upstream.waits()
        try:
            if request.pending:
                saved = ClientPending.load(request.pending)
                answer: Any = operations.resume(waits, self.context, saved, wait=False)
            else:
                item = InfoTypeAndValue.make(request.oid, request.value)
                answer = operations.request_info(waits, self.context, item, profile=request.cert_profile, wait=False)
        except TransportError as error:
            logger.warning("the certification authority did not answer: %s", error)
            raise Rejected(
                FailureInfo.SYSTEM_UNAVAIL, "the certification authority cannot be reached; try again later"
            ) from None
        except Rejected as error:
            raise refusal_for_entity(error) from error
        except (BadMessage, OpenSSLError, ValueError) as error:
            logger.error("no valid answer from the certification authority: %s", error)
            raise Rejected(FailureInfo.SYSTEM_FAILURE, "the certification authority gave no valid answer") from error
        if isinstance(answer, ClientPending):
            own = self._check_after
            wait = max(1, round(answer.check_after_seconds)) if own is None else own
            return Pending(check_after_seconds=wait, text=_LATER, reference=answer.save())
        infos: tuple[Info, ...] = answer
        found = [InfoTypeAndValue.make(each.oid, each.value) for each in infos]
        self._remember(key, found)
        return found

    def _known(self, key: tuple[str, bytes | None, str | None]) -> list[InfoTypeAndValue] | None:
        with self._cache_lock:
            cached = self._cache.get(key)
            if cached is None:
                return None
            if self._clock() >= cached.until:
                del self._cache[key]
                return None
            self._cache.move_to_end(key)
            return list(cached.infos)

    def _remember(self, key: tuple[str, bytes | None, str | None], infos: list[InfoTypeAndValue]) -> None:
        if self._cache_seconds <= 0 or self._max_cached <= 0:
            return
        with self._cache_lock:
            self._cache[key] = _Cached(list(infos), self._clock() + self._cache_seconds)
            while len(self._cache) > self._max_cached:
                self._cache.popitem(last=False)


def refusal_for_entity(error: Rejected) -> Rejected:
    """What an entity is told of a CA's refusal: its words, unless they are about the RA."""
    if error.failure is not None and error.failure not in _ABOUT_US:
        return Rejected(error.failure, *error.text, failures=error.failures)
    logger.error("the certification authority refused the registration authority: %s", error)
    return Rejected(FailureInfo.SYSTEM_FAILURE, "the certification authority refused the registration authority")


def _unless_needed(outcome: Any, may_wait: bool) -> Pending | None:
    """ "Later" where somebody waits for it.

    Raises:
        Rejected: nobody does, and it is to be tried again.
    """
    if not isinstance(outcome, Pending):
        return None
    if may_wait:
        return outcome
    raise Rejected(FailureInfo.SYSTEM_UNAVAIL, outcome.text)


def _handed_on(received: Received, changed: str | None) -> Issued:
    def der(certificates: Iterable[Any]) -> tuple[bytes, ...]:
        return tuple(each.public_bytes(Encoding.DER) for each in certificates)

    changes: tuple[str, ...] = () if changed is None else (changed,)
    if received.status.name == "GRANTED_WITH_MODS":
        changes += received.status_text or ("changed by the certification authority",)
    return Issued(
        certificate=received.certificate.public_bytes(Encoding.DER),
        chain=der(received.chain),
        ca_certificates=der(received.ca_certificates),
        changes=changes,
    )


# -- messages ------------------------------------------------------------------------------------------------------


def certificate_request_body(
    request: CertificateRequest, grant: Grant, *, vouch: bool = False, original: bool = True
) -> tuple[BodyType, bytes, Literal["signature", "raVerified"], list[InfoTypeAndValue]]:
    """Type and content (DER) of the body that asks a CA for what an entity asked for, its proof, and infos for the header.

    Args:
        grant: what is changed.
        vouch: say raVerified also where the entity's own proof could stay.
        original: put the entity's message into origPKIMessage beside raVerified.

    Raises:
        ValueError: the request names no message, and its proof shall stay.

    Source: RFC 9483, 5.2.3.1 and 5.2.3.2; RFC 9810, 5.1.1.3.
    """
    profile = grant.profile or request.cert_profile
    info = [] if profile is None else [encode_info(oids.IT_CERT_PROFILE, [profile])]
    message = None if request.message is None else admit(request.message)
    if message is not None and not vouch and not grant.changes_template:
        if message.body_type is BodyType.P10CR:
            return BodyType.P10CR, message.body_der, "signature", info
        if (kept := _own_proof(message, request.cert_req_id)) is not None:
            return message.body_type, kept, "signature", info
    body_type = BodyType.IR if request.kind is BodyType.IR else BodyType.CR
    if original and request.message is not None:
        info.append(InfoTypeAndValue.make(oids.IT_ORIG_PKI_MESSAGE, wrap(0x30, request.message)))
    return body_type, wrap(0x30, encode(_vouched(request, grant))), "raVerified", info


def _own_proof(message: Message, cert_req_id: int) -> bytes | None:
    """The request as the entity made it, where it can go up alone and unchanged under another header."""
    if message.body_type not in {BodyType.IR, BodyType.CR} or cert_req_id != 0:
        return None
    content: list[CertReqMsg] = message.content()
    for (start, end), each in zip(elements(message.body_der), content, strict=True):
        if each.cert_req.cert_req_id != 0:
            continue
        proof = None if each.popo is None else each.popo.value
        if not isinstance(proof, POPOSigningKey) or proof.poposk_input is not None:
            return None
        return wrap(0x30, message.body_der[start:end])
    return None


def _vouched(request: CertificateRequest, grant: Grant) -> CertReqMsg:
    subject = request.subject if grant.subject is None else grant.subject
    extensions = request.extensions if grant.extensions is None else grant.extensions
    begin, end = request.not_before, request.not_after
    validity = None
    if begin is not None or end is not None:
        validity = OptionalValidity(
            not_before=None if begin is None else asn1_time(begin), not_after=None if end is None else asn1_time(end)
        )
    template = CertTemplate(
        issuer=None if request.issuer is None else tlv(request.issuer),
        validity=validity,
        subject=None if subject is None else tlv(subject),
        public_key=decode(SubjectPublicKeyInfo, request.public_key),
        extensions=_listed(extensions),
    )
    return CertReqMsg(
        cert_req=CertRequest(cert_req_id=0, cert_template=template, controls=None),
        popo=Variant(ASN1Null(), "raVerified"),
    )


def _listed(extensions: Iterable[Extension]) -> list[Extension] | None:
    return list(extensions) or None
