"""Keys that an escrow archives: sealed with a request for a certificate, and asked back (krr).

Source: RFC 4211, 2.1 and 6.4; RFC 9810, 5.3.7 and 5.3.8.
"""

from __future__ import annotations

import time

from cryptography.hazmat.asn1 import TLV

from opensslcmp.asn1 import (
    AttributeTypeAndValue,
    CertReqMsg,
    CertRequest,
    CertTemplate,
    EncKeyWithID,
    PrivateKeyInfo,
    decode,
    directory_name,
    encode,
    enveloped_data,
    oids,
    tlv,
)
from opensslcmp.asn1.controls import archive, archive_generated
from opensslcmp.client.central import opened_key
from opensslcmp.client.context import Context, NameSource, name_from
from opensslcmp.client.exchange import Answer, Transaction, Waits, raise_unless_granted
from opensslcmp.client.results import RecoveredKey, certificate_of
from opensslcmp.context.certificates import facts, load_certificate
from opensslcmp.context.cms import Recipient, seal
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import CertificateSource
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage

__all__ = ["archive_control", "recover_keys"]


def archive_control(
    key: PrivateKey | None, escrow: CertificateSource | bool, subject: bytes | None
) -> AttributeTypeAndValue:
    """pkiArchiveOptions for a request.

    Args:
        key: to be archived; None: the server makes it.
        escrow: the certificate to seal it to; True for a key that the server makes.
        subject: whose it is, a Name in DER.

    Raises:
        OpenSSLError: the key does not leave its provider.
        ValueError: there is no certificate to seal it to.
        BadMessage: badAlg, nothing can be sealed to its key.
    """
    if key is None:
        return archive_generated(True)
    if isinstance(escrow, bool):
        raise ValueError("a key of one's own is archived for the certificate of an escrow")
    info = decode(PrivateKeyInfo, key.to_pkcs8())
    content = EncKeyWithID(private_key=info, identifier=None if subject is None else directory_name(subject))
    recipient = Recipient.of(load_certificate(escrow))
    return archive(seal(encode(content), recipient, content_type=oids.CT_ENC_KEY_WITH_ID, library=key.library))


def recover_keys(
    waits: Waits,
    context: Context,
    certificate: CertificateSource | None = None,
    *,
    issuer: NameSource | None = None,
    serial_number: int | None = None,
    subject: NameSource | None = None,
) -> tuple[RecoveredKey, ...]:
    """krr. ``Session.recover_keys`` documents the arguments."""
    if certificate is not None:
        if issuer is not None or serial_number is not None:
            raise ValueError("either a certificate, or issuer and serial_number")
        about = facts(load_certificate(certificate))
        issuer, serial_number = about.issuer, about.serial_number
    template = CertTemplate(
        serial_number=serial_number,
        issuer=_name(issuer),
        subject=_name(subject),
    )
    request = CertReqMsg(cert_req=CertRequest(cert_req_id=0, cert_template=template))
    with Transaction(waits, context) as transaction:
        answer = transaction.round_trip(BodyType.KRR, [request], pvno=3)
        transaction.close()
        raise_unless_granted(answer.content.status)
        found = tuple(_recovered(context, answer, pair) for pair in answer.content.key_pair_hist or ())
        for each in found:
            if serial_number not in {None, each.certificate.serial_number}:
                raise BadMessage(FailureInfo.BAD_CERT_ID, "the answer is about another certificate")
        return found


def _name(source: NameSource | None) -> TLV | None:
    return None if source is None else tlv(name_from(source))


def _recovered(context: Context, answer: Answer, pair: object) -> RecoveredKey:
    """One pair of the history; the key is its certificate's, and signed by who may hand out keys."""
    certificate: bytes | None = getattr(pair, "certificate", None)
    private = getattr(pair, "private_key", None)
    enveloped = None if private is None else enveloped_data(private)
    if certificate is None or enveloped is None:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a recovered key without certificate, or not as EnvelopedData")
    parsed = certificate_of(certificate)
    # An old certificate may have expired; it was issued by whom it names all the same.
    begin, end = parsed.not_valid_before_utc.timestamp(), parsed.not_valid_after_utc.timestamp()
    at = max(min(time.time(), end - 1), begin)
    return RecoveredKey(certificate=parsed, key=opened_key(context, answer, enveloped, certificate, at))
