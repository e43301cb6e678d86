"""ir, cr, kur, p10cr, and what follows them: certConf, pollReq.

Each request of a message is accepted, rejected or put off on its own. A rejection of a request is an answer like any
other; only what concerns the whole message is an error.

Source: RFC 9810, 5.3.1 to 5.3.4, 5.3.18, 5.3.22; RFC 9483, 4.1 and 4.4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TypeAlias

from cryptography.hazmat.asn1 import TLV

from opensslcmp.asn1 import (
    Attribute,
    CertificationRequest,
    CertReqMsg,
    CertResponse,
    Extension,
    InfoTypeAndValue,
    Message,
    PKIStatusInfo,
    bits,
    decode,
    decode_list,
    der,
    elements,
    encode,
    general_time,
    oids,
    outline,
    raw_cert_requests,
    structure,
    wrap,
)
from opensslcmp.asn1.controls import ArchiveOptions, Controls
from opensslcmp.context.protection import ProtectionKind
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import BadMessage, Rejected
from opensslcmp.server.authority import CertificateRequest, Issued, Pending
from opensslcmp.server.delay import ANSWER_TO, keep_waiting, put_off, references, waiting_status
from opensslcmp.server.possession import challenge, encrypted_pair, key_usage_proven
from opensslcmp.server.rules import Check, Stage, Wish, central_key_kind, central_key_recipient
from opensslcmp.server.store import (
    CertificateRecord,
    CertificateState,
    Revocation,
    TransactionState,
    certificate_key,
)
from opensslcmp.server.turn import Answer, Turn, refusal

__all__ = ["confirm", "enroll", "wishes_of"]

_IMPLICIT_CONFIRM = encode(InfoTypeAndValue.make(oids.IT_IMPLICIT_CONFIRM, b"\x05\x00"))
_ACCEPTED = PKIStatusInfo.make(PKIStatus.ACCEPTED)
_ACCEPTED_DER = encode(_ACCEPTED)
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_WHOLE = -1


@structure
class _Extensions:
    value: list[Extension]


# -- reading -------------------------------------------------------------------------------------------------------


def wishes_of(message: Message) -> list[Wish]:
    """The requests in an ir, cr, kur or p10cr.

    Raises:
        BadMessage: badDataFormat.
    """
    content = message.content()
    if message.body_type is BodyType.P10CR:
        return [_csr(content)]
    requests: list[CertReqMsg] = content
    wishes = []
    for request, raw in zip(requests, raw_cert_requests(message.body_der), strict=True):
        template = request.cert_req.cert_template
        wishes.append(
            Wish(
                request.cert_req.cert_req_id,
                template.subject_der,
                template.public_key_der,
                tuple(template.extensions or ()),
                raw,
                request,
            )
        )
    return wishes


def _csr(request: CertificationRequest) -> Wish:
    try:
        info = request.info
        extensions: tuple[Extension, ...] = ()
        if isinstance(info.attributes, TLV):
            attributes = der(info.attributes)
            if attributes[:1] != b"\xa0":
                raise ValueError("attributes under a wrong tag")
            for start, end in elements(attributes, 0xA0):
                extensions += _requested_extensions(attributes[start:end])
        return Wish(
            -1,
            der(info.subject),
            der(info.subject_pk_info),
            extensions,
            der(request.certification_request_info),
            info=info,
            signature=(der(request.signature_algorithm), bits(request.signature)),
        )
    except ValueError as error:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"the PKCS #10 request does not decode: {error}") from error


def _requested_extensions(attribute: bytes) -> tuple[Extension, ...]:
    """Extensions of an extensionRequest attribute; none of any other (RFC 2985, 5.4.2)."""
    parsed = decode(Attribute, attribute)
    if parsed.oid != _EXTENSION_REQUEST:
        return ()
    values = der(parsed.values)
    found = [values[a:b] for a, b in elements(values, 0x31)]
    if len(found) != 1:
        raise ValueError("an extensionRequest without exactly one value")
    extensions: list[Extension] = decode_list(_Extensions, found[0])
    return tuple(extensions)


# -- requests ------------------------------------------------------------------------------------------------------


def enroll(turn: Turn) -> Answer:
    """Answer an ir, cr, kur or p10cr."""
    check = turn.check
    if turn.polled is None:
        check.open_transactions = turn.store.open_transactions(check.verified.identity)
        check.profile.check(Stage.OPENING, check)
    wishes = wishes_of(check.message)
    if turn.polled is None and not turn.proven:
        challenged = [each for each in wishes if each.proof == "challenge"]
        if challenged and not _refused(turn, wishes):
            return challenge(turn, challenged)
    return _answer(turn, check.message, wishes)


def _refused(turn: Turn, wishes: list[Wish]) -> bool:
    """Whether some request breaks a rule: then nobody is challenged, and the answer says which."""
    check = turn.check
    check.wishes = len(wishes)
    for check.position, check.wish in enumerate(wishes):
        try:
            check.profile.check(Stage.REQUEST, check)
        except BadMessage:
            return True
    return False


Outcome: TypeAlias = Issued | Pending | Rejected


def _ask(turn: Turn, message: Message, wishes: list[Wish]) -> list[tuple[Wish, Outcome]]:
    """What became of each wish that is not answered yet."""
    check, polled = turn.check, turn.polled
    waited = references(polled.begun.pending) if polled is not None else {}
    asked = {each.cert_req_id for each in polled.message.content()} if polled is not None else set()
    check.wishes = len(wishes)
    outcomes: list[tuple[Wish, Outcome]] = []
    for position, wish in enumerate(wishes):
        number = wish.request_id
        if polled is not None and number not in waited:
            continue
        check.wish, check.position = wish, position
        outcome: Outcome
        try:
            if polled is None or number in asked or _WHOLE in asked:
                outcome = _decide(turn, message, wish, waited.get(number))
            else:
                outcome = Pending(reference=waited[number])
        except Exception as error:
            outcome = refusal(error)
        outcomes.append((wish, outcome))
    return outcomes


def _answer(turn: Turn, message: Message, wishes: list[Wish]) -> Answer:
    """Ask the authority for each wish, and put the answers into one message."""
    check = turn.check
    outcomes = _ask(turn, message, wishes)
    waiting = {wish.request_id: each for wish, each in outcomes if isinstance(each, Pending)}
    numbers = [wish.request_id for wish, _ in outcomes]
    together = message.body_type is BodyType.KUR or len(set(numbers)) < len(numbers)
    if waiting and (together or len(waiting) == len(numbers)):
        first = next(iter(waiting.values()))
        return put_off(turn, first, {number: waiting.get(number, first) for number in numbers})

    before = turn.polled.begun if turn.polled is not None else None
    turn.issued = before.certificates if before is not None else ()
    responses: list[bytes] = []
    statuses: list[PKIStatusInfo] = []
    chain: dict[bytes, None] = {}
    roots: dict[bytes, None] = {}
    implicit = _may_waive(turn, message, wishes)
    state = CertificateState.VALID if implicit else CertificateState.UNCONFIRMED
    for wish, outcome in outcomes:
        if isinstance(outcome, Issued):
            record = _accept(turn, message, wish, outcome, state)
            if check.escrow is not None and outcome.archived_key is not None:
                turn.change.archived += (check.escrow.archive(record, outcome.archived_key),)
            status, response = _granted(wish, outcome, message.header.pvno)
            chain.update(dict.fromkeys(outcome.chain))
            roots.update(dict.fromkeys(outcome.ca_certificates))
        else:
            if isinstance(outcome, Pending):
                status = waiting_status(outcome)
            else:
                status = PKIStatusInfo.make(outcome.status, *outcome.text, failures=outcome.failures)
            response = encode(CertResponse(cert_req_id=wish.request_id, status=status))
        responses.append(response)
        statuses.append(status)
    info: tuple[bytes, ...] = ()
    now_issued = bool(turn.change.certificates)
    if now_issued and implicit:
        info = (_IMPLICIT_CONFIRM,)
    elif now_issued:
        info = (_confirm_wait_time(int(turn.now + turn.confirm_wait_seconds)),)
    _settle(turn, waiting, unconfirmed=now_issued and not implicit)
    first_issued = now_issued and (before is None or not before.certificates)
    if first_issued and check.secret is not None and check.secret.single_use:
        turn.change.secret_used = check.verified.reference
    body_type = ANSWER_TO[message.body_type]
    shown = body_type is BodyType.IP and check.verified.kind is ProtectionKind.MAC and now_issued
    # CertRepMessage from its parts, all of them DER already: 10 µs less than through the structures.
    ca_pubs = wrap(0xA1, wrap(0x30, b"".join(roots))) if shown and roots else b""
    return Answer(
        body_type=body_type,
        body=wrap(0x30, ca_pubs + wrap(0x30, b"".join(responses))),
        general_info=info,
        extra_certs=tuple(chain),
        statuses=tuple(statuses),
    )


@lru_cache(maxsize=4)
def _confirm_wait_time(second: int) -> bytes:
    until = general_time(datetime.fromtimestamp(second, UTC))
    return encode(InfoTypeAndValue.make(oids.IT_CONFIRM_WAIT_TIME, encode(until)))


def _may_waive(turn: Turn, message: Message, wishes: list[Wish]) -> bool:
    """Implicit confirmation is granted: not where the certConf is to prove possession."""
    granted = turn.implicit_confirm and message.implicit_confirm
    return granted and all(wish.proof != "indirect" for wish in wishes)


_number = lru_cache(maxsize=128)(encode)


def _granted(wish: Wish, issued: Issued, pvno: int) -> tuple[PKIStatusInfo, bytes]:
    """Status and CertResponse (DER) of a certificate (RFC 9810, 5.3.4)."""
    status, status_der = _ACCEPTED, _ACCEPTED_DER
    if issued.changes:
        status = PKIStatusInfo.make(PKIStatus.GRANTED_WITH_MODS, *issued.changes)
        status_der = encode(status)
    if wish.proof == "indirect":
        pair = encrypted_pair(issued.certificate, wish.public_key or b"", pvno)
    else:
        pair = wrap(0x30, wrap(0xA0, issued.certificate) + issued.private_key)
    return status, wrap(0x30, _number(wish.request_id) + status_der + pair)


def _settle(turn: Turn, waiting: Mapping[int, Pending], *, unconfirmed: bool) -> None:
    """Where the transaction stands after an answer that decides about certificates.

    Args:
        unconfirmed: the answer has certificates that are to be confirmed.
    """
    turn.request = turn.pending = None
    before = turn.polled.begun if turn.polled is not None else None
    open_before = before is not None and _any_unconfirmed(turn, before.certificates)
    if waiting:
        turn.state = TransactionState.WAITING
        keep_waiting(turn, waiting)
        turn.deadline = turn.now + turn.wait_seconds if before is None else before.deadline
        if unconfirmed:
            turn.deadline = min(turn.deadline, turn.now + turn.confirm_wait_seconds)
    elif unconfirmed or open_before:
        turn.state = TransactionState.CONFIRMING
        turn.deadline = turn.now + turn.confirm_wait_seconds
    else:
        turn.state = TransactionState.CONFIRMED if turn.issued else TransactionState.CLOSED


def _any_unconfirmed(turn: Turn, certificates: tuple[tuple[int, bytes], ...]) -> bool:
    records = [turn.store.certificate(key) for _, key in certificates]
    return any(each is not None and each.state is CertificateState.UNCONFIRMED for each in records)


def _decide(turn: Turn, message: Message, wish: Wish, pending: bytes | None) -> Issued | Pending:
    check = turn.check
    profile = check.profile
    authority = turn.authority
    profiles = message.cert_profile
    preferred = check.secret.profiles if check.secret is not None else ()
    named = profiles[min(check.position, len(profiles) - 1)] if profiles else None
    check.cert_profile = named = turn.issuing_profile(named, preferred)
    if (find := getattr(authority, "issuing_profile", None)) is not None:
        issuing = find(named)
        check.reuse_key, check.reissue, check.check_key = issuing.reuse_key, issuing.reissue, issuing.check_key
    if not check.reissue:
        mark = _key_and_subject(wish.public_key or b"", wish.subject or b"")
        check.certified = turn.store.certified(mark, turn.now)
        check.asked_twice = mark in check.asked
        check.asked.add(mark)
    if turn.polled is None:
        profile.check(Stage.REQUEST, check)
    public_key, made = wish.public_key or b"", None
    if (generator := check.key_generator) is not None and wish.asks_for_key:
        made, pending = generator.make(_kind_of_key(check), pending)
        public_key = made.public_key_der
    validity = wish.message.cert_req.cert_template.validity if wish.message else None
    request = CertificateRequest(
        kind=message.body_type,
        subject=wish.subject,
        public_key=public_key,
        extensions=key_usage_proven(wish),
        not_before=validity.not_before.as_datetime() if validity and validity.not_before else None,
        not_after=validity.not_after.as_datetime() if validity and validity.not_after else None,
        issuer=wish.message.cert_req.cert_template.issuer_der if wish.message else None,
        requester=check.verified,
        ra=check.ra,
        approved_by=check.outer,
        signing_algorithm=_signing_algorithm(wish),
        peer=check.peer,
        now=turn.moment,
        transaction_id=message.transaction_id or b"",
        cert_req_id=wish.request_id,
        old_certificate=check.verified.certificate if message.body_type is BodyType.KUR else None,
        cert_profile=named,
        pending=pending,
        implicit_confirm=_may_waive(turn, message, [wish]),
        message=message.der,
    )
    escrow = check.escrow
    options = None if escrow is None or wish.message is None else _archive_options(wish.message)
    if generator is None or made is None:
        sent = None if escrow is None else escrow.sent(options, public_key)
        outcome = authority.issue(request)
        return replace(outcome, archived_key=sent) if sent is not None and isinstance(outcome, Issued) else outcome
    recipient = central_key_recipient(check)
    if recipient is None:  # whatever the profile says: there is nobody to seal it for
        raise Rejected(FailureInfo.NOT_AUTHORIZED, "there is nobody to seal the key for")
    outcome = generator.deliver(authority.issue(request), made, recipient)
    if escrow is not None and isinstance(outcome, Issued) and escrow.wants(options):
        outcome = replace(outcome, archived_key=made.to_pkcs8())
    return outcome


def _archive_options(request: CertReqMsg) -> ArchiveOptions | None:
    try:
        return Controls.of(request).archive
    except ValueError as error:
        raise Rejected(FailureInfo.BAD_DATA_FORMAT, f"controls that do not decode: {error}") from None


def _kind_of_key(check: Check) -> str:
    kind = central_key_kind(check)
    if kind is None:
        raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "no such kind of key is made")
    return kind


def _signing_algorithm(wish: Wish) -> bytes | None:
    asked = wish.message.cert_req.cert_template.signing_alg if wish.message else None
    return None if asked is None else encode(asked)


def _key_and_subject(public_key: bytes, subject: bytes) -> bytes:
    return hashlib.sha256(public_key + subject).digest()


def _accept(turn: Turn, message: Message, wish: Wish, issued: Issued, state: CertificateState) -> CertificateRecord:
    """Write down a certificate."""
    serial_number, issuer, not_after, subject, public_key = outline(issued.certificate)
    signer = turn.check.signer
    updates = signer.key if message.body_type is BodyType.KUR and signer is not None else None
    record = CertificateRecord(
        key=certificate_key(issuer, serial_number),
        serial_number=serial_number,
        certificate=issued.certificate,
        key_and_subject=_key_and_subject(public_key, subject),
        state=state,
        identity=turn.check.verified.identity,
        transaction_id=message.transaction_id or b"",
        issued_at=turn.now,
        not_after=not_after,
        updates=updates,
    )
    turn.change.certificates.append(record)
    if updates is not None and signer is not None:
        after = CertificateState.UPDATED if state is CertificateState.VALID else CertificateState.UPDATING
        step = (updates, signer.state, after)
        if step not in turn.change.states:  # once for all certificates that take its place
            turn.change.states.append(step)
    turn.issued += ((wish.request_id, record.key),)
    return record


# -- certConf ------------------------------------------------------------------------------------------------------


def confirm(turn: Turn) -> Answer:
    """Answer a certConf: what is confirmed is in force from now on, what is not is revoked."""
    check = turn.check
    transaction = check.begun
    check.statuses = tuple(check.message.content())
    statuses = {each.cert_req_id: each for each in check.statuses}
    waits_for_more = transaction.state is TransactionState.WAITING and references(transaction.pending).keys() != {
        _WHOLE
    }
    check.unconfirmed = waits_for_more and _any_unconfirmed(turn, transaction.certificates)
    found: list[tuple[CertificateRecord, bool]] = []
    for request_id, key in transaction.certificates or ((0, b""),):
        check.status, check.record = statuses.get(request_id), turn.store.certificate(key)
        if check.record is not None and check.record.state is CertificateState.REVOKED:
            check.revoked = turn.store.revocation(key)
        check.profile.check(Stage.CONFIRM, check)
        if check.status is None and _was_confirmed(check.record, check.revoked):
            continue  # by an earlier certConf, while others of the message were waited for
        info = check.status.status_info if check.status else None
        # A certificate without a status is rejected (RFC 9810, 5.3.18).
        accepted = check.status is not None and (info is None or info.status == PKIStatus.ACCEPTED)
        if check.record is not None:
            found.append((check.record, accepted))
    for record, accepted in found:
        if (
            accepted and record.state is not CertificateState.UNCONFIRMED
        ):  # while it waited, or whatever the profile says
            raise BadMessage(FailureInfo.CERT_REVOKED, "the certificate is not in force any more")
        pending = turn.authority.confirm(Issued(certificate=record.certificate), accepted)
        if pending is not None and transaction.state is TransactionState.WAITING:
            raise BadMessage(
                FailureInfo.SYSTEM_UNAVAIL, "the confirmation cannot wait while requests do; try again later"
            )
        if pending is not None:
            return put_off(turn, pending)
    updated: dict[bytes, bool] = {}
    for record, accepted in found:
        if accepted:
            turn.serials[record.key] = record.serial_number
            turn.change.states.append((record.key, CertificateState.UNCONFIRMED, CertificateState.VALID))
        elif record.state is not CertificateState.REVOKED:
            turn.revoke(record, RevocationReason.UNSPECIFIED)
        if record.updates is not None:
            updated[record.updates] = updated.get(record.updates, False) or accepted
    for key, accepted in updated.items():
        turn.end_update(key, CertificateState.UPDATED if accepted else CertificateState.VALID)
    taken = any(accepted for _, accepted in found) or len(found) < len(transaction.certificates)
    turn.issued = transaction.certificates
    if transaction.state is TransactionState.WAITING:
        turn.state, turn.deadline = TransactionState.WAITING, turn.now + turn.wait_seconds
        turn.request, turn.pending = transaction.request, transaction.pending
    else:
        turn.state = TransactionState.CONFIRMED if taken else TransactionState.CLOSED
    return Answer(body_type=BodyType.PKICONF, body=b"\x05\x00")


def _was_confirmed(record: CertificateRecord | None, revoked: Revocation | None) -> bool:
    if record is None or record.state is CertificateState.UNCONFIRMED:
        return False
    return record.state is not CertificateState.REVOKED or (
        revoked is not None and revoked.before is not CertificateState.UNCONFIRMED
    )
