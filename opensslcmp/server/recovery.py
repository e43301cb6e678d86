"""krr: archived keys are given back to whom their certificates were issued.

A credential owns what was issued to it; a certificate of ours moreover what was issued to the credentials that it goes back to
by updates and by its issue, as long as the subject is its own; and both what that was updated to, or asked for with that
subject. A registration authority recovers the certificate that it names. A key is given back whatever became of its
certificate, since it is needed to read what is old; but not when that was never confirmed. Nobody is told whether there is
nothing, or nothing of theirs.

No new signature certificate comes with the keys (newSigCert), so nothing is to be confirmed, and the krp ends the transaction.

Source: RFC 9810, 5.3.7 and 5.3.8.
"""

from __future__ import annotations

from collections.abc import Iterator

from opensslcmp.asn1 import CertTemplate, PKIStatusInfo, encode, wrap
from opensslcmp.context.certificates import facts, same_name
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage, Rejected
from opensslcmp.server.rules import Stage, recovery_recipient
from opensslcmp.server.store import ArchivedKey, CertificateRecord, CertificateState, certificate_key
from opensslcmp.server.turn import Answer, Turn, refusal

__all__ = ["recover"]

_MOST_CREDENTIALS = 256
_MOST_KEYS = 64


def recover(turn: Turn) -> Answer:
    """Answer a krr."""
    check = turn.check
    check.profile.check(Stage.OPENING, check)
    requests = check.message.content()
    check.wishes = len(requests)
    check.recovery = next(iter(requests), None)
    try:
        pairs, records = _pairs(turn)
    except Exception as error:
        refused = refusal(error)
        status = PKIStatusInfo.make(refused.status, *refused.text, failures=refused.failures)
        return Answer(body_type=BodyType.KRP, body=wrap(0x30, encode(status)), statuses=(status,))
    turn.recovered = tuple(record.serial_number for record in records)
    status = PKIStatusInfo.make(PKIStatus.ACCEPTED)
    history = wrap(0xA2, wrap(0x30, b"".join(pairs)))
    return Answer(body_type=BodyType.KRP, body=wrap(0x30, encode(status) + history), statuses=(status,))


def _pairs(turn: Turn) -> tuple[list[bytes], list[CertificateRecord]]:
    """The CertifiedKeyPairs that are asked for, the newest first, and whose they are."""
    check, escrow = turn.check, turn.check.escrow
    check.profile.check(Stage.RECOVER, check)
    recipient = recovery_recipient(check)
    if escrow is None or check.recovery is None or recipient is None:  # whatever the profile says
        raise Rejected(FailureInfo.NOT_AUTHORIZED, "nobody is given keys")
    template = check.recovery.cert_req.cert_template
    found = _named(turn, template) if check.ra else _owned(turn)
    wanted = [(record, each) for record, each in found if _is_given(turn, record) and _fits(record, template)]
    if not wanted:
        raise Rejected(FailureInfo.BAD_CERT_ID, "no archived key of yours is like that")
    wanted.sort(key=lambda pair: (-pair[0].issued_at, pair[0].key))
    del wanted[_MOST_KEYS:]
    try:
        return [escrow.give(each, record, recipient) for record, each in wanted], [record for record, _ in wanted]
    except BadMessage as error:  # not the requester's fault
        raise ValueError(f"an archived key: {error}") from None


def _named(turn: Turn, template: CertTemplate) -> Iterator[tuple[CertificateRecord, ArchivedKey]]:
    """What a registration authority names."""
    if template.issuer_der is None or template.serial_number is None:  # whatever the profile says
        return
    record = turn.store.certificate(certificate_key(template.issuer_der, template.serial_number))
    if record is not None:
        yield from ((record, each) for each in turn.store.archived(record.identity) if each.key == record.key)


def _owned(turn: Turn) -> Iterator[tuple[CertificateRecord, ArchivedKey]]:
    """What is the requester's own.

    Who signs with a certificate is given keys of its subject only, since others may share the secret that both began with;
    and a certificate that others got, who began with it, counts for its subject too.
    """
    store, certificate = turn.store, turn.verified.certificate
    subject = None if certificate is None else facts(certificate).subject
    seen = {turn.verified.identity}
    record = turn.check.signer
    while record is not None and len(seen) < _MOST_CREDENTIALS:
        seen.add(record.identity)
        record = store.certificate(record.updates) if record.updates is not None else None
    waiting = [(identity, subject) for identity in seen]
    while waiting:
        identity, subject = waiting.pop()
        for archived in store.archived(identity):
            record = store.certificate(archived.key)
            if record is None or not (subject is None or same_name(subject, facts(record.certificate).subject)):
                continue
            yield record, archived
            line = [record]
            while line:
                held = line.pop()
                about = facts(held.certificate)
                holder = b"cert:" + about.fingerprint  # as ``Verified.identity``
                if holder not in seen and len(seen) < _MOST_CREDENTIALS:
                    seen.add(holder)
                    waiting.append((holder, about.subject))
                    line += store.successors(held.key)


def _is_given(turn: Turn, record: CertificateRecord) -> bool:
    """The certificate was confirmed, whatever became of it since."""
    if record.state is CertificateState.REVOKED:
        revoked = turn.store.revocation(record.key)
        return revoked is not None and revoked.before is not CertificateState.UNCONFIRMED
    return record.state is not CertificateState.UNCONFIRMED


def _fits(record: CertificateRecord, template: CertTemplate) -> bool:
    about = facts(record.certificate)
    return (
        template.serial_number in {None, record.serial_number}
        and (template.issuer_der is None or same_name(template.issuer_der, about.issuer))
        and (template.subject_der in {None, b"0\0"} or same_name(template.subject_der or b"", about.subject))
        and template.public_key_der in {None, about.spki}
    )
