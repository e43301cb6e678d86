"""One message's turn: what the handlers of the bodies are given, what they decide, and what is committed with it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime

from opensslcmp.asn1 import PKIStatusInfo, initializer
from opensslcmp.context.protection import Verified
from opensslcmp.enums import BodyType, FailureInfo, RevocationReason
from opensslcmp.errors import BadMessage, Rejected
from opensslcmp.server.authority import Authority, Issued
from opensslcmp.server.policy import LabelPolicy
from opensslcmp.server.rules import Check
from opensslcmp.server.store import (
    CertificateRecord,
    CertificateState,
    Change,
    Revocation,
    Store,
    Transaction,
    TransactionState,
    Unavailable,
)

__all__ = ["Answer", "Turn", "refusal"]

logger = logging.getLogger("opensslcmp.server")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A body, and what goes around it: ``general_info`` and certificates in DER; ``statuses`` are those in the body, for who
    looks on.
    """

    body_type: BodyType
    body: bytes
    general_info: tuple[bytes, ...] = ()
    extra_certs: tuple[bytes, ...] = ()
    statuses: tuple[PKIStatusInfo, ...] = ()


Answer.__init__ = initializer(Answer)  # type: ignore[method-assign]


@dataclass(slots=True)
class Turn:
    """What a handler has at hand, and where it writes down what shall be committed.

    Attributes:
        asked: the message and what is known of it; None when time alone acts. While a request that was put off is asked
            anew, the message is that request.
        change: without its transaction, request and response yet.
        state, issued, deadline, request, pending: of the transaction afterwards.
        polled: the pollReq and what is known of it, then.
        label: what the label in the path selects, if there is one.
        sender: of the answer, a GeneralName in DER.
        proven: possession of the keys was proved by a popdecr.
        recovered: serial numbers of certificates whose archived keys are given back.
        serials: serial numbers by key, of certificates that are confirmed or released; for who looks on.
    """

    authority: Authority
    store: Store
    asked: Check | None
    now: float
    implicit_confirm: bool
    confirm_wait_seconds: float
    wait_seconds: float
    change: Change
    state: TransactionState = TransactionState.CLOSED
    issued: tuple[tuple[int, bytes], ...] = ()
    deadline: float = 0.0
    request: bytes | None = None
    pending: bytes | None = None
    polled: Check | None = None
    label: LabelPolicy | None = None
    sender: bytes = b""
    proven: bool = False
    recovered: tuple[int, ...] = ()
    serials: dict[bytes, int] = field(default_factory=dict)

    @property
    def check(self) -> Check:
        """The message and what is known of it."""
        assert self.asked is not None
        return self.asked

    @property
    def moment(self) -> datetime:
        """``now`` for people."""
        return datetime.fromtimestamp(self.now, UTC)

    @property
    def verified(self) -> Verified:
        """Who asks."""
        return self.check.verified

    def issuing_profile(self, named: str | None, preferred: tuple[str, ...] = ()) -> str | None:
        """The name of the issuing profile for who names this one by certProfile, or none.

        Args:
            preferred: what the credential is for; the first that the label has is for who names none.

        Raises:
            Rejected: badCertTemplate, the label does not have it.
        """
        first = next(iter(preferred), None)
        if self.label is None:
            return named or first
        here = (each for each in preferred if each in self.label.profiles)
        return self.label.issuing_profile(named or next(here, first))

    def revoke(self, record: CertificateRecord, reason: RevocationReason) -> None:
        """Revoke a certificate with this change; one that is revoked gets another reason and date."""
        before = record.state
        if before is CertificateState.REVOKED:
            self.change.released.append(record.key)
            before = self._before(record)
        self.change.states.append((record.key, record.state, CertificateState.REVOKED))
        self.change.revocations.append(
            Revocation(
                key=record.key,
                serial_number=record.serial_number,
                reason=reason,
                at=self.now,
                not_after=record.not_after,
                before=before,
            )
        )

    def _before(self, record: CertificateRecord) -> CertificateState:
        """What a revoked certificate was good for before it was."""
        revoked = self.store.revocation(record.key)
        return revoked.before if revoked is not None else CertificateState.VALID

    def take_back(self, transaction: Transaction) -> None:
        """Revoke what a transaction issued and nobody confirmed, and let the certificate that it updates be again."""
        for _, key in transaction.certificates:
            record = self.store.certificate(key)
            if record is None or record.state is not CertificateState.UNCONFIRMED:
                continue
            self.authority.confirm(Issued(certificate=record.certificate), accepted=False)
            self.revoke(record, RevocationReason.UNSPECIFIED)
            if record.updates is not None:
                self.end_update(record.updates, CertificateState.VALID)

    def release(self, record: CertificateRecord) -> CertificateState:
        """Take the revocation of a certificate back, so that it is what it would be without, which is returned.

        That is in force; or updated, when an update was confirmed at any time; or still to be confirmed.

        Raises:
            Rejected: certRevoked, nobody confirmed it while there was time.
        """
        before = self._before(record)
        after = CertificateState.UPDATED if before is CertificateState.UPDATED else CertificateState.VALID
        if before is CertificateState.UNCONFIRMED:
            transaction, _ = self.store.look(record.transaction_id, b"")
            if transaction is None or not transaction.state.is_open or self.now >= transaction.deadline:
                raise Rejected(FailureInfo.CERT_REVOKED, "never confirmed, so not to be released")
            after = CertificateState.UNCONFIRMED
            old = self.store.certificate(record.updates) if record.updates is not None else None
            if old is not None and old.state is CertificateState.VALID:
                self.change.states.append((old.key, CertificateState.VALID, CertificateState.UPDATING))
        for successor in self.store.successors(record.key):
            if successor.state is CertificateState.REVOKED:
                confirmed = self._before(successor) is not CertificateState.UNCONFIRMED
            else:
                confirmed = successor.state is not CertificateState.UNCONFIRMED
            if confirmed:
                after = CertificateState.UPDATED
                break
            if successor.state is CertificateState.UNCONFIRMED:
                after = CertificateState.UPDATING
        self.serials[record.key] = record.serial_number
        self.change.released.append(record.key)
        self.change.states.append((record.key, CertificateState.REVOKED, after))
        return after

    def update_failed(self, record: CertificateRecord) -> None:
        """An update was revoked unconfirmed: the old certificate is in force again, unless another may take its place."""
        if record.updates is None:
            return
        gone = {key for key, _, after in self.change.states if after is CertificateState.REVOKED}
        others = [each for each in self.store.successors(record.updates) if each.key not in gone]
        if all(each.state is not CertificateState.UNCONFIRMED for each in others):
            self.end_update(record.updates, CertificateState.VALID)

    def end_update(self, key: bytes, after: CertificateState) -> None:
        """The update of a certificate is over; one that was revoked meanwhile stays so."""
        record = self.store.certificate(key)
        if record is None or record.state is not CertificateState.UPDATING:
            return
        step = (key, CertificateState.UPDATING, after)
        if step not in self.change.states:  # several certificates may take the place of one
            self.change.states.append(step)


def refusal(error: Exception) -> Rejected:
    """What a requester is told of an exception: its own words, or systemFailure once it was logged."""
    if isinstance(error, Rejected):
        return error
    if isinstance(error, Unavailable):
        raise error  # nothing was decided: the request is looked at anew when it comes again
    if isinstance(error, BadMessage):
        return Rejected(error.failure, error.text)
    logger.error("the authority failed", exc_info=error)
    return Rejected(FailureInfo.SYSTEM_FAILURE, "the server failed; try again later")
