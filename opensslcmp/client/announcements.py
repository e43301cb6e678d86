"""Announcements: what a CA tells without having been asked. How they are made, sent, and believed.

========  ==============================  ===================================================================
kind      content                         says
========  ==============================  ===================================================================
ckuann    ``RootCaKeyUpdateContent`` or   the CA has a new key; ``Announcement.root_update`` checks it against
          ``CAKeyUpdAnnContent``          the root that is held
cann      a certificate                   it exists
rann      ``RevAnnContent``               a certificate was revoked, or is about to be
crlann    CRLs                            these are new
========  ==============================  ===================================================================

Nobody answers an announcement with a message: a receiver acknowledges it by its transfer (HTTP 201 or 202, an empty answer
elsewhere). So whoever sends one knows that it arrived, and ``announce`` may be called again with the same ``Notice``.

Source: RFC 9810, 5.3.13 to 5.3.16; RFC 9811, 3.5.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.x509.oid import CRLEntryExtensionOID

from opensslcmp.asn1 import (
    NULL_DN,
    CertId,
    Extension,
    GeneralizedTime,
    Message,
    RevAnnContent,
    RootCaKeyUpdateContent,
    admit,
    directory_name,
    encode,
    encode_body,
    header_der,
    tlv,
)
from opensslcmp.asn1.bodies import CAKeyUpdAnnContent
from opensslcmp.client.context import Context
from opensslcmp.client.operations import checked_root_ca_update
from opensslcmp.client.results import RootCaUpdate, certificate_of, crl_of
from opensslcmp.context.certificates import load_certificate
from opensslcmp.context.protection import ProtectionKind, Protector, Verified, fresh_bytes, protect
from opensslcmp.credentials import CertificateSource
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import BadMessage, ProtectionError, Rejected, TimedOut, TransportError
from opensslcmp.transport import FileTransport, MailTransport

__all__ = [
    "ANNOUNCEMENTS",
    "Announcement",
    "Notice",
    "RevocationNotice",
    "announce",
    "announcement_message",
    "receive_announcement",
]

ANNOUNCEMENTS = frozenset((BodyType.CKUANN, BodyType.CANN, BodyType.RANN, BodyType.CRLANN))
"""The kinds of announcements."""

_TELLS_OF_REVOCATION = frozenset(
    (PKIStatus.REVOCATION_WARNING, PKIStatus.REVOCATION_NOTIFICATION, PKIStatus.ACCEPTED, PKIStatus.GRANTED_WITH_MODS)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """What is to be announced, before it is a message.

    Attributes:
        kind: CKUANN, CANN, RANN or CRLANN.
        body: DER.
        pvno: 3 for a ckuann in its form of today.
    """

    kind: BodyType
    body: bytes = field(repr=False)
    pvno: int = 2

    @classmethod
    def ca_key_update(
        cls,
        new_with_new: CertificateSource,
        new_with_old: CertificateSource | None = None,
        old_with_new: CertificateSource | None = None,
        *,
        deprecated: bool = False,
    ) -> Notice:
        """ckuann: the CA has a new key.

        Args:
            deprecated: in the form of RFC 4210, for receivers that know no other; it takes all three certificates.

        Raises:
            ValueError: one is missing.

        Source: RFC 9810, 5.3.13.
        """
        new, over, back = (
            None if each is None else tlv(load_certificate(each)) for each in (new_with_new, new_with_old, old_with_new)
        )
        assert new is not None
        if deprecated:
            if over is None or back is None:
                raise ValueError("the deprecated form of ckuann takes newWithOld and oldWithNew too")
            content: Any = CAKeyUpdAnnContent(old_with_new=back, new_with_old=over, new_with_new=new)
            return cls(kind=BodyType.CKUANN, body=encode_body(BodyType.CKUANN, content))
        content = RootCaKeyUpdateContent(new_with_new=new, new_with_old=over, old_with_new=back)
        return cls(kind=BodyType.CKUANN, body=encode_body(BodyType.CKUANN, content), pvno=3)

    @classmethod
    def certificate(cls, certificate: CertificateSource) -> Notice:
        """cann: this certificate exists. Source: RFC 9810, 5.3.14."""
        return cls(kind=BodyType.CANN, body=load_certificate(certificate))

    @classmethod
    def revocation(
        cls,
        issuer: bytes,
        serial_number: int,
        *,
        at: datetime,
        bad_since: datetime | None = None,
        reason: RevocationReason | None = None,
        status: PKIStatus = PKIStatus.REVOCATION_NOTIFICATION,
    ) -> Notice:
        """rann: this certificate was revoked, or is about to be.

        Args:
            issuer: DER of its Name.
            at: when the CRL has it.
            bad_since: since when it is not to be relied upon; by default ``at``.
            reason: goes into crlDetails.
            status: REVOCATION_WARNING for what is yet to come.

        Source: RFC 9810, 5.3.15.
        """
        details = None
        if reason is not None:
            oid = CRLEntryExtensionOID.CRL_REASON
            details = [Extension(extn_id=oid, extn_value=bytes((0x0A, 1, reason)))]
        content = RevAnnContent(
            status=status,
            cert_id=CertId.make(issuer, serial_number),
            will_be_revoked_at=_moment(at),
            bad_since_date=_moment(at if bad_since is None else bad_since),
            crl_details=details,
        )
        return cls(kind=BodyType.RANN, body=encode(content))

    @classmethod
    def crls(cls, crls: Iterable[bytes]) -> Notice:
        """crlann: these CRLs (DER) are new. Source: RFC 9810, 5.3.16."""
        return cls(kind=BodyType.CRLANN, body=encode_body(BodyType.CRLANN, [*crls]))


def _moment(moment: datetime) -> GeneralizedTime:
    return GeneralizedTime(moment.astimezone(UTC).replace(microsecond=0))


@dataclass(frozen=True, kw_only=True, slots=True)
class RevocationNotice:
    """What a rann says.

    Attributes:
        status: REVOCATION_NOTIFICATION when it was revoked, REVOCATION_WARNING when it is about to be.
        issuer: DER of the Name of who issued the certificate.
        serial_number: of the certificate.
        at: when the CRL has it.
        bad_since: since when it is not to be relied upon.
        reason: None when none is told.
    """

    status: PKIStatus
    issuer: bytes
    serial_number: int
    at: datetime
    bad_since: datetime
    reason: RevocationReason | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """An announcement that was received, and whose protection was verified.

    Attributes:
        kind: CKUANN, CANN, RANN or CRLANN.
        message: as it came.
        verified: who protected it.
        content: as ``opensslcmp.asn1.bodies`` decodes it.
    """

    kind: BodyType
    message: Message = field(repr=False)
    verified: Verified
    content: Any = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        """Of a cann.

        Raises:
            TypeError: it is another announcement.
            BadMessage: badDataFormat.
        """
        self._is(BodyType.CANN)
        return certificate_of(self.content)

    @property
    def crls(self) -> tuple[x509.CertificateRevocationList, ...]:
        """Of a crlann; the signatures of the CRLs themselves are not verified.

        Raises:
            as ``certificate``.
        """
        self._is(BodyType.CRLANN)
        return tuple(crl_of(each) for each in self.content)

    @property
    def revocation(self) -> RevocationNotice:
        """Of a rann.

        Raises:
            as ``certificate``.
        """
        self._is(BodyType.RANN)
        content: RevAnnContent = self.content
        issuer = content.cert_id.issuer_der
        if issuer is None or content.status not in _TELLS_OF_REVOCATION:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a rann that says nothing of a certificate")
        reason = None
        for each in content.crl_details or ():
            if each.oid == CRLEntryExtensionOID.CRL_REASON.dotted_string:
                try:
                    reason = RevocationReason(each.extn_value[-1])
                except (ValueError, IndexError):
                    raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a reason for a revocation that is none") from None
        return RevocationNotice(
            status=PKIStatus(content.status),
            issuer=issuer,
            serial_number=content.cert_id.serial_number,
            at=content.will_be_revoked_at.as_datetime().replace(tzinfo=UTC),
            bad_since=content.bad_since_date.as_datetime().replace(tzinfo=UTC),
            reason=reason,
        )

    def root_update(self, root: CertificateSource) -> RootCaUpdate:
        """Of a ckuann: the new root, once it was checked against the one that is held, as an answer to a genm is.

        Raises:
            TypeError: it is another announcement.
            ProtectionError: nothing ties the new root to this one.

        Source: RFC 9810, 4.4 and 5.3.13.
        """
        self._is(BodyType.CKUANN)
        return checked_root_ca_update(load_certificate(root), self.content)

    def _is(self, kind: BodyType) -> None:
        if self.kind is not kind:
            raise TypeError(f"this is a {self.kind.text}, and no {kind.text}")

    def check(self) -> None:
        """Return when what it says can be read.

        Raises:
            BadMessage: badDataFormat.
        """
        if self.kind is BodyType.CANN:
            _ = self.certificate
        elif self.kind is BodyType.CRLANN:
            _ = self.crls
        elif self.kind is BodyType.RANN:
            _ = self.revocation


def announcement_message(
    notice: Notice, protector: Protector, *, recipient: bytes = NULL_DN, transaction_id: bytes | None = None
) -> bytes:
    """The message (DER) that announces it now, signed.

    Args:
        recipient: DER of a Name.
        transaction_id: the same for a notice that is sent once more; None: a new one.

    Raises:
        ValueError: the credential does not sign.
        OpenSSLError: the key does not.
    """
    if protector.kind is not ProtectionKind.SIGNATURE:
        raise ValueError("an announcement is signed: anybody may be its receiver")
    header = header_der(
        pvno=notice.pvno,
        sender=encode(directory_name(protector.sender_name)),
        recipient=encode(directory_name(recipient)),
        second=int(time.time()),
        transaction_id=transaction_id or fresh_bytes(16),
        sender_nonce=fresh_bytes(16),
        recip_nonce=None,
    )
    return protect(header, notice.kind, notice.body, protector)


def announce(transport: Any, message: bytes, timeout_seconds: float = 30.0) -> None:
    """Deliver an announcement: return once its receiver has acknowledged it.

    By files and e-mail nothing is acknowledged: what lies there, or was sent, counts as delivered.

    Args:
        transport: a ``Transport``, of any kind.
        message: DER, as ``announcement_message`` makes it.

    Raises:
        Rejected: the receiver answered with an error message.
        TransportError: it did not acknowledge; with ``http_status`` where that says why.

    Source: RFC 9811, 3.5.
    """
    # Of HTTP alone it has to be said, since only there is an empty answer to anything else a mistake.
    knows = "announcement" in inspect.signature(transport.send).parameters
    leaves = isinstance(transport, FileTransport | MailTransport)
    try:
        answer = transport.send(
            message, 0.0 if leaves else timeout_seconds, **({"announcement": True} if knows else {})
        )
    except TimedOut:
        if leaves:
            return
        raise
    if not answer:
        return
    try:
        told = admit(answer)
        if told.body_type is BodyType.PKICONF:
            return
        if told.body_type is BodyType.ERROR:
            info = told.content().pki_status_info
            raise Rejected(info.failures[0] if info.failures else None, *info.text, failures=info.failures)
    except BadMessage as error:
        raise TransportError(f"an announcement was answered with what is no message: {error}") from None
    raise TransportError(f"an announcement was answered with {told.body_type.text}")


def receive_announcement(context: Context, der: bytes, *, message_time_seconds: float = 300.0) -> Announcement:
    """An announcement, once its form, its time and its signature are right.

    Who may announce is who signs the answers that the context believes: ``pinned``, ``expected_sender``, or anybody below
    ``trusted``, so give it a context that trusts the CA and nobody else.

    Args:
        message_time_seconds: how far messageTime may be from now; one that is sent once more later on is another message.

    Raises:
        BadMessage: it is no announcement, is old, or does not decode.
        ProtectionError: it is not signed by whom the context believes.
    """
    message = admit(der, limits=context.limits, accept=ANNOUNCEMENTS)
    moment = message.message_time
    if moment is None or abs(moment.timestamp() - time.time()) > message_time_seconds:
        raise BadMessage(FailureInfo.BAD_TIME, "an announcement without messageTime, or of another time")
    verified = context.verify(message)
    if verified.kind is not ProtectionKind.SIGNATURE:
        raise ProtectionError("an announcement that is not signed", FailureInfo.WRONG_INTEGRITY)
    found = Announcement(kind=message.body_type, message=message, verified=verified, content=message.content())
    found.check()
    return found
