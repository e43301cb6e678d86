"""rr: a certificate is revoked by its holder or by a registration authority.

Source: RFC 9810, 5.3.9 and 5.3.10; RFC 9483, 4.2.
"""

from __future__ import annotations

from opensslcmp.asn1 import CertId, PKIStatusInfo, RevDetails, RevRepContent, encode
from opensslcmp.context.certificates import facts, same_name
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import BadMessage
from opensslcmp.server.authority import Pending, RevocationRequest
from opensslcmp.server.delay import put_off, reference
from opensslcmp.server.rules import Stage, wanted_reason
from opensslcmp.server.store import CertificateRecord, CertificateState, certificate_key
from opensslcmp.server.turn import Answer, Turn, refusal

__all__ = ["alter", "revoke"]


def revoke(turn: Turn) -> Answer:
    """Answer an rr."""
    check = turn.check
    if turn.polled is None:
        check.profile.check(Stage.OPENING, check)
    items: list[RevDetails] = check.message.content()
    check.revocations = len(items)
    statuses = []
    revoked = []
    if not items:
        raise BadMessage(FailureInfo.BAD_REQUEST, "no RevDetails")
    for details in items:
        try:
            done = _revoke(turn, details)
        except Exception as error:
            refused = refusal(error)
            statuses.append(PKIStatusInfo.make(refused.status, *refused.text, failures=refused.failures))
            continue
        if isinstance(done, Pending):
            return put_off(turn, done)
        record, text = done
        statuses.append(PKIStatusInfo.make(PKIStatus.ACCEPTED, text))
        revoked.append(CertId.make(facts(record.certificate).issuer, record.serial_number))
    # rev_certs has as many items as status, or is left out (RFC 9810, 5.3.10).
    body = RevRepContent(status=statuses, rev_certs=revoked if len(revoked) == len(statuses) else None)
    return Answer(body_type=BodyType.RP, body=encode(body), statuses=tuple(statuses))


def _revoke(turn: Turn, details: RevDetails) -> tuple[CertificateRecord, str] | Pending:
    check = turn.check
    template = details.cert_details
    check.revocation = details
    issuer, serial = template.issuer_der, template.serial_number
    if issuer is None or serial is None:
        check.record = None
    else:
        check.record = _find(turn, issuer, serial)
    record = check.record
    is_revoked = record is not None and record.state is CertificateState.REVOKED
    check.revoked = turn.store.revocation(record.key) if record is not None and is_revoked else None
    check.profile.check(Stage.REVOKE, check)
    assert record is not None
    assert issuer is not None
    reason = wanted_reason(details)
    pending = turn.authority.revoke(
        RevocationRequest(
            certificate=record.certificate,
            issuer=issuer,
            serial_number=record.serial_number,
            reason=reason,
            requester=check.verified,
            ra=check.ra,
            peer=check.peer,
            now=turn.moment,
            transaction_id=check.message.transaction_id or b"",
            pending=reference(turn),
        )
    )
    if pending is not None:
        return pending
    return record, alter(turn, record, reason)


_RELEASED = {
    CertificateState.VALID: "released: in force again",
    CertificateState.UPDATING: "released: in force again, until its update is confirmed",
    CertificateState.UPDATED: "released: but an update took its place",
    CertificateState.UNCONFIRMED: "released: still to be confirmed",
}


def alter(turn: Turn, record: CertificateRecord, reason: RevocationReason) -> str:
    """Revoke a certificate, put it on hold or release it, with the turn's change; what was done, in words."""
    if any(key == record.key for key, _, _ in turn.change.states):
        return "done with it already"
    if reason is RevocationReason.REMOVE_FROM_CRL:
        return _RELEASED[turn.release(record)]
    turn.revoke(record, reason)
    if record.state is CertificateState.UNCONFIRMED:
        turn.update_failed(record)
    return "put on hold" if reason is RevocationReason.CERTIFICATE_HOLD else f"revoked: {reason.text}"


def _find(turn: Turn, issuer: bytes, serial: int) -> CertificateRecord | None:
    record = turn.store.certificate(certificate_key(issuer, serial))
    if record is not None:
        return record
    # The same name may be written in other string types than in the certificate.
    certificate = turn.check.verified.certificate
    if certificate is None:
        return None
    about = facts(certificate)
    if about.serial_number == serial and same_name(issuer, about.issuer):
        return turn.check.signer
    return None
