"""The seam to whoever decides: what the Responder asks, and what it is told.

The Responder has checked the protocol before it asks: who sent the message, the proof of possession, the transaction.
An authority says whether this requester gets this certificate, and makes it. It keeps no transaction: what it answers
is recorded by the Responder in one commit with the response. When that commit is lost (another process was faster),
the certificate never leaves and the authority is asked again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from opensslcmp.asn1 import Extension, InfoTypeAndValue, Limits, admit, initializer
from opensslcmp.asn1.controls import Controls
from opensslcmp.context.protection import Verified
from opensslcmp.enums import BodyType, FailureInfo, RevocationReason
from opensslcmp.errors import Rejected
from opensslcmp.server.peer import Peer

__all__ = [
    "Authority",
    "CertificateRequest",
    "InfoRequest",
    "Issued",
    "Pending",
    "Publisher",
    "RevocationRequest",
]


_NOWHERE = Peer()
# The Responder's own limits were kept to when the message came.
_READ_BEFORE = Limits(max_message_bytes=1 << 30, max_header_bytes=1 << 24, min_id_bytes=1, max_requests=1 << 20)


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateRequest:
    """One request for one certificate, its proof of possession verified.

    Attributes:
        kind: IR, CR, KUR or P10CR; CCR where cross-certification is switched on.
        subject: DER of the Name asked for; None when there is none.
        public_key: SubjectPublicKeyInfo in DER, as the requester sent it.
        extensions: asked for.
        not_before, not_after: validity asked for, in UTC.
        signing_algorithm: AlgorithmIdentifier in DER that the certificate is to be signed with; of a CCR.
        issuer: DER of the Name that is to issue; None when the requester does not care.
        requester: the verified credential.
        ra: the requester is an authorised registration authority.
        approved_by: the registration authority that added its protection to the message, or sent it in a batch.
        peer: where it came from.
        now: the Responder's time, in UTC.
        transaction_id: of the message.
        cert_req_id: of the request.
        old_certificate: the certificate to be updated, DER; of a KUR.
        cert_profile: the certProfile named for it.
        pending: what ``Pending.reference`` said when this message was last asked; None at first.
        implicit_confirm: nobody will confirm the certificate: implicit confirmation was asked for, and is granted.
        message: the message that asks, DER.
    """

    kind: BodyType
    subject: bytes | None
    public_key: bytes = field(repr=False)
    extensions: tuple[Extension, ...] = ()
    not_before: datetime | None = None
    not_after: datetime | None = None
    issuer: bytes | None = None
    signing_algorithm: bytes | None = None
    requester: Verified
    ra: bool = False
    approved_by: Verified | None = None
    peer: Peer = _NOWHERE
    now: datetime
    transaction_id: bytes
    cert_req_id: int = 0
    old_certificate: bytes | None = field(default=None, repr=False)
    cert_profile: str | None = None
    pending: bytes | None = None
    implicit_confirm: bool = False
    message: bytes | None = field(default=None, repr=False)

    @property
    def controls(self) -> Controls:
        """Controls and regInfo of the request (RFC 4211, 6 and 7), read when somebody asks; of a p10cr there are none.

        Raises:
            Rejected: badDataFormat, one does not decode or is there twice.
        """
        if self.message is None or self.kind is BodyType.P10CR:
            return Controls()
        for each in admit(self.message, limits=_READ_BEFORE).content():
            if each.cert_req.cert_req_id == self.cert_req_id:
                try:
                    return Controls.of(each)
                except ValueError as error:
                    raise Rejected(FailureInfo.BAD_DATA_FORMAT, f"controls that do not decode: {error}") from None
        return Controls()


CertificateRequest.__init__ = initializer(CertificateRequest)  # type: ignore[method-assign]


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """A certificate.

    Attributes:
        certificate: DER.
        chain: DER of its issuer and so on; sent in extraCerts.
        ca_certificates: DER of root certificates for caPubs; sent only in an ip under a MAC.
        changes: what differs from what was asked, for people; some make the status grantedWithMods.
        private_key: of a key that was made for the requester: the field privateKey, sealed (``key_generation``).
        archived_key: PKCS #8 of a key that is to be archived (``escrow``).
    """

    certificate: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    ca_certificates: tuple[bytes, ...] = field(default=(), repr=False)
    changes: tuple[str, ...] = ()
    private_key: bytes = field(default=b"", repr=False)
    archived_key: bytes | None = field(default=None, repr=False)


Issued.__init__ = initializer(Issued)  # type: ignore[method-assign]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """Not decided yet: the requester is told to ask again.

    Attributes:
        check_after_seconds: when.
        text: why, for people.
        reference: comes back in ``pending`` of the request. Of several requests in a message each waits with its own; the
            updates in a kur wait together, and those that were decided are asked anew with the reference of the first that waits.
    """

    check_after_seconds: int = 60
    text: str = ""
    reference: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class RevocationRequest:
    """A certificate that is to be revoked, by its holder or an authorised RA.

    Attributes:
        certificate: DER; None when the Responder's store does not have it.
        issuer: DER of its issuer's Name.
        serial_number: of the certificate.
        reason: why.
        requester, ra, peer, now, transaction_id, pending: as in CertificateRequest.
    """

    certificate: bytes | None = field(repr=False)
    issuer: bytes
    serial_number: int
    reason: RevocationReason
    requester: Verified
    ra: bool = False
    peer: Peer = _NOWHERE
    now: datetime
    transaction_id: bytes = b""
    pending: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InfoRequest:
    """One infoType of a genm.

    Attributes:
        oid: dotted.
        value: DER, or None when absent.
        cert_profile: the first certProfile named in the header.
        requester, peer, now, transaction_id, pending: as in CertificateRequest.
    """

    oid: str
    value: bytes | None
    cert_profile: str | None = None
    requester: Verified
    peer: Peer = _NOWHERE
    now: datetime
    transaction_id: bytes = b""
    pending: bytes | None = None


class Authority(Protocol):
    """Decides. May be called from several threads at once.

    One that has a method ``issuing_profile(name: str | None) -> IssuingProfile`` besides is asked whether the profile
    named by certProfile lets keys be used again (``reuse_key``, ``reissue``); of others, no key is updated with itself.

    Under ``Responder.handle_async`` each method may be a coroutine function; one that blocks goes into ``hub.InThreads``.

    Each method may raise ``Rejected`` with a failInfo, which the requester is told. Any other exception is logged with
    its traceback, and the requester is told systemFailure.
    """

    def issue(self, request: CertificateRequest) -> Issued | Pending:
        """The certificate, or "later"."""

    def confirm(self, issued: Issued, accepted: bool) -> Pending | None:
        """The requester confirmed the certificate, or rejected it or let its time pass: then it is revoked.

        "Later" counts while the requester waits for an answer, and not when its time has passed.
        """

    def revoke(self, request: RevocationRequest) -> Pending | None:
        """None when the certificate is to be revoked, or "later"."""

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue] | Pending:
        """What to answer, an empty list for an infoType that is not known here; or "later"."""


@runtime_checkable
class Publisher(Protocol):
    """An authority that wants to know when revocations have become durable."""

    def publish(self) -> None:
        """Called after a commit that revoked something. What it raises is logged."""
