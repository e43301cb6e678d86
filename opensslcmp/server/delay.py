"""Delayed delivery: an authority answers "later" to any request, and the requester polls for the answer.

A transaction that waits keeps its request in the store, so whichever worker gets the pollReq, days later or after a
restart, asks the authority anew. An ip, cp or kup says "waiting" for certificate requests, an error message for anything
else.

Of several requests in one ir or cr, each waits on its own: what is decided is answered at once, and confirmed while the others
are polled for. The updates of one certificate (kur) wait together: once one of them is confirmed, the old certificate
signs no pollReq.

Source: RFC 9810, 5.3.22; RFC 9483, 4.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from opensslcmp.asn1 import (
    CertRepMessage,
    CertResponse,
    ErrorMsgContent,
    PKIStatusInfo,
    PollRep,
    admit,
    decode,
    elements,
    encode,
    encode_body,
    wrap,
)
from opensslcmp.context.certificates import facts
from opensslcmp.context.keys import signature_algorithm
from opensslcmp.context.protection import ProtectionKind, Verified
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage, Rejected
from opensslcmp.server.authority import Pending
from opensslcmp.server.rules import ACCEPTED, REQUESTS, Stage
from opensslcmp.server.store import CertificateState, TransactionState
from opensslcmp.server.turn import Answer, Turn, refusal

__all__ = [
    "ANSWER_TO",
    "Handler",
    "keep",
    "keep_waiting",
    "kept",
    "poll",
    "put_off",
    "reference",
    "references",
    "waiting_status",
]

ANSWER_TO = {
    BodyType.IR: BodyType.IP,
    BodyType.CR: BodyType.CP,
    BodyType.P10CR: BodyType.CP,
    BodyType.KUR: BodyType.KUP,
    BodyType.CCR: BodyType.CCP,
}
Handler: TypeAlias = Callable[[Turn], Answer]
_WHOLE = -1
"""certReqId of a pollReq for a whole answer."""


def put_off(turn: Turn, pending: Pending, waiting: Mapping[int, Pending] | None = None) -> Answer:
    """The answer that says "later"; nothing else of what the turn has written down is kept.

    Args:
        waiting: what the authority said, by certReqId of each certificate that is asked for; none for other requests.

    Raises:
        BadMessage: systemUnavail, too many transactions are open.
    """
    check, polled = turn.check, turn.polled
    change = turn.change
    for written in (change.certificates, change.states, change.revocations, change.released):
        written.clear()
    known = (polled or check).transaction
    if known is None:
        check.open_transactions = turn.store.open_transactions(check.verified.identity)
        check.profile.check(Stage.OPENING, check)
    # Polling does not make the time longer.
    turn.deadline = turn.now + turn.wait_seconds if polled is None else polled.begun.deadline
    turn.state = TransactionState.WAITING
    turn.issued = known.certificates if known is not None else ()
    keep_waiting(turn, {_WHOLE: pending} if waiting is None else waiting)
    status = waiting_status(pending)
    if polled is not None:
        asked = {each.cert_req_id for each in polled.message.content()}
        reported = {number: each for number, each in (waiting or {}).items() if number in asked} or {_WHOLE: pending}
        reports = [
            PollRep(cert_req_id=number, check_after=each.check_after_seconds, reason=[each.text] if each.text else None)
            for number, each in reported.items()
        ]
        body = encode_body(BodyType.POLL_REP, reports)
        return Answer(body_type=BodyType.POLL_REP, body=body, statuses=(status,))
    kind = ANSWER_TO.get(check.message.body_type)
    if kind is None:
        body = encode(ErrorMsgContent(pki_status_info=status))
        return Answer(body_type=BodyType.ERROR, body=body, statuses=(status,))
    responses = [
        CertResponse(cert_req_id=number, status=waiting_status(each)) for number, each in (waiting or {}).items()
    ]
    return Answer(body_type=kind, body=encode(CertRepMessage(response=responses)), statuses=(status,))


def waiting_status(pending: Pending) -> PKIStatusInfo:
    """ "waiting", with what the authority said."""
    return PKIStatusInfo.make(PKIStatus.WAITING, *([pending.text] if pending.text else []))


def keep_waiting(turn: Turn, waiting: Mapping[int, Pending]) -> None:
    """Write down the request and what it waits for, for the pollReq to come."""
    check, polled = turn.check, turn.polled
    turn.request = keep(check.message.der, check.outer) if polled is None else polled.begun.request
    items = [wrap(0x30, encode(number) + encode(each.reference)) for number, each in waiting.items()]
    turn.pending = wrap(0x30, b"".join(items))


def references(pending: bytes | None) -> dict[int, bytes]:
    """What the authority said, by the certReqIds that wait; -1 is a whole answer."""
    found: dict[int, bytes] = {}
    stored = pending or b"\x30\x00"
    for start, end in elements(stored):
        item = stored[start:end]
        (a, b), (c, d) = elements(item)
        found[decode(int, item[a:b])] = decode(bytes, item[c:d])
    return found


def reference(turn: Turn, request_id: int = _WHOLE) -> bytes | None:
    """What the authority said when it put this off; None when it is asked for the first time."""
    return None if turn.polled is None else references(turn.polled.begun.pending).get(request_id)


def poll(turn: Turn, handlers: Mapping[BodyType, Handler]) -> Answer:
    """Answer a pollReq: the request is handled as if it came just now, and its final answer ends the waiting.

    Args:
        handlers: of the bodies that may have been put off. They find the request in ``turn.check``, and the pollReq in
            ``turn.polled``.

    Raises:
        BadMessage: badRequest, nothing is waited for, or not under this certReqId.
    """
    check = turn.check
    check.profile.check(Stage.POLL, check)
    begun = check.begun
    if begun.state is not TransactionState.WAITING:  # whatever the profile says: there is no request
        raise BadMessage(FailureInfo.BAD_REQUEST, "there is no request to answer")
    request, outer = kept(begun.request or b"")
    original = admit(request, limits=check.message.limits, accept=ACCEPTED)
    asked = {each.cert_req_id for each in check.message.content()}
    if not asked or not asked <= references(begun.pending).keys() | {_WHOLE}:
        raise BadMessage(FailureInfo.BAD_REQUEST, "an unknown certReqId")
    # Two requests may have been put off while each of them was alone.
    if original.body_type is BodyType.KUR and check.signer and check.signer.state is CertificateState.UPDATING:
        raise BadMessage(FailureInfo.BAD_REQUEST, "an update of this certificate is not confirmed yet")
    single = original.body_type in REQUESTS and check.secret is not None and check.secret.single_use
    used = check.secret is not None and check.secret.used_at is not None and not begun.certificates
    if single and used:
        raise BadMessage(FailureInfo.NOT_AUTHORIZED, "not authorised to ask for another certificate")
    turn.polled = check
    before = replace(begun, state=TransactionState.CONFIRMING) if original.body_type is BodyType.CERT_CONF else None
    # Who vouched for the request counts, not who passed on the pollReq.
    turn.asked = replace(check, message=original, transaction=before, outer=outer)
    try:
        return handlers[original.body_type](turn)
    except (BadMessage, Rejected) as error:
        refused = refusal(error)
    change = turn.change
    for written in (change.certificates, change.states, change.revocations, change.released):
        written.clear()
    turn.take_back(begun)
    turn.state, turn.issued = TransactionState.CLOSED, begun.certificates
    turn.request = turn.pending = None
    status = PKIStatusInfo.make(refused.status, *refused.text, failures=refused.failures)
    return Answer(body_type=BodyType.ERROR, body=encode(ErrorMsgContent(pki_status_info=status)), statuses=(status,))


_WITH_OUTER = 0xE1


def keep(request: bytes, outer: Verified | None) -> bytes:
    """A request for the store, with who signed the nested message that it came in: private tag 1, and certificates behind."""
    if outer is None:
        return request
    return wrap(_WITH_OUTER, b"".join((request, outer.signature_algorithm or b"\x30\x00", *outer.chain)))


def kept(stored: bytes) -> tuple[bytes, Verified | None]:
    """What ``keep`` was given."""
    if stored[:1] != bytes((_WITH_OUTER,)):
        return stored, None
    request, algorithm, *chain = (stored[start:end] for start, end in elements(stored, _WITH_OUTER))
    return request, Verified(
        kind=ProtectionKind.SIGNATURE,
        certificate=chain[0],
        chain=tuple(chain),
        algorithm=signature_algorithm(algorithm).name,
        signature_algorithm=algorithm,
        identity=b"cert:" + facts(chain[0]).fingerprint,
    )
