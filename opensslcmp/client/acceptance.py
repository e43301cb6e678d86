"""What a new certificate must be like before it is confirmed: what was asked for, in force, and signed by its issuer.

A server that grants "with modifications" says that subject or alternative names differ; one that says "accepted" has no reason
to change them. What it may do, and many do, is to add: attributes to the subject, further alternative names. It is the
server's word that is checked here, and not who the server is: that the message's protection has shown.

Issuers are the certificates of the new one's issuer that are worth something: the context's own, the verified signer's
path, caPubs. Not extraCerts: no protection covers them. A rollover leaves two of the same name, so one that verifies is
enough, and those whose key identifier is another one are nobody's issuer.

Source: RFC 9810, 5.3.4 and 5.3.18; RFC 9483, 4.1.1.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509

from opensslcmp.asn1 import NULL_DN, Certificate, CertificationRequest, Extension, decode, der, elements, unwrap
from opensslcmp.client.request import asked_extensions
from opensslcmp.context.certificates import facts, holds_name, same_name
from opensslcmp.context.enrollment import EnrollmentRequest
from opensslcmp.context.keys import verify_signature
from opensslcmp.context.library import Library
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, ProtectionError

__all__ = ["Asked", "asked", "check_issuer", "check_names", "check_validity"]

_SAN = "2.5.29.17"
_EARLY_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, of that which can be compared.

    Attributes:
        subject: DER of a Name; None when it is left open.
        names: DER of the subjectAltName; None when none is asked for.
        begins: when the wished validity begins, in seconds since 1970; None for now.
    """

    subject: bytes | None = None
    names: bytes | None = None
    begins: float | None = None


def asked(request: EnrollmentRequest) -> Asked:
    """What this request asks for.

    Raises:
        ValueError: its PKCS#10 request does not decode.
    """
    if request.body_type is BodyType.P10CR:
        return _asked_by_csr(request.request or b"")
    subject = request.subject
    if subject is None and request.old_certificate is not None:
        subject = facts(request.old_certificate).subject
    if subject == NULL_DN:
        subject = None
    begins = None if request.validity is None else request.validity[0].timestamp()
    extensions = asked_extensions(request)
    return Asked(subject, None if extensions is None else _names_in(extensions), begins)


def _asked_by_csr(request: bytes) -> Asked:
    subject = der(decode(CertificationRequest, request).info.subject)
    names = None
    with contextlib.suppress(
        ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType
    ):
        extensions = x509.load_der_x509_csr(request).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value.public_bytes()
    return Asked(None if subject == NULL_DN else subject, names)


@lru_cache(maxsize=64)
def _names_in(extensions: bytes) -> bytes | None:
    for start, end in elements(extensions):
        extension = decode(Extension, extensions[start:end])
        if extension.oid == _SAN:
            return extension.extn_value
    return None


def check_names(wanted: Asked, certificate: bytes, subject: bytes) -> None:
    """Raises ``BadMessage`` unless subject and alternative names that were asked for are in the certificate.

    Args:
        certificate: DER of the new one.
        subject: its subject, DER.
    """
    if wanted.subject is not None and wanted.subject != subject and not holds_name(subject, wanted.subject):
        raise BadMessage(FailureInfo.INCORRECT_DATA, "the certificate's subject is not the one asked for")
    if wanted.names is None:
        return
    try:
        found = decode(Certificate, certificate).tbs.extension(_SAN)
        there = set() if found is None else _general_names(found)
        missing = _general_names(wanted.names) - there
    except ValueError:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "the certificate's alternative names do not decode") from None
    if any(not _is_name_in(each, there) for each in missing):
        raise BadMessage(FailureInfo.INCORRECT_DATA, "the certificate lacks alternative names that were asked for")


_CASELESS = frozenset((0x81, 0x82))  # rfc822Name, dNSName
_DIRECTORY_NAME = 0xA4


def _general_names(value: bytes) -> set[bytes]:
    names = [value[start:end] for start, end in elements(value)]
    return {each.lower() if each[0] in _CASELESS else each for each in names}


def _is_name_in(name: bytes, names: Iterable[bytes]) -> bool:
    """A directoryName may be spelled otherwise."""
    if name[0] != _DIRECTORY_NAME:
        return False
    return any(same_name(unwrap(name), unwrap(each)) for each in names if each[0] == _DIRECTORY_NAME)


def check_validity(wanted: Asked, certificate: x509.Certificate) -> None:
    """Raises ``BadMessage`` for a certificate that is over, ends before it begins, or begins more than a day from now.

    One whose later beginning was asked for may begin then.
    """
    try:
        begins = certificate.not_valid_before_utc.timestamp()
        ends = certificate.not_valid_after_utc.timestamp()
    except ValueError:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "the certificate's validity does not decode") from None
    now = time.time()
    if ends < now or ends < begins:
        raise BadMessage(FailureInfo.INCORRECT_DATA, "the certificate is not valid any more")
    if begins > max(now, wanted.begins or 0.0) + _EARLY_SECONDS:
        raise BadMessage(FailureInfo.INCORRECT_DATA, "the certificate is not valid yet")


def check_issuer(certificate: bytes, issuer: bytes, pool: Iterable[bytes], library: Library | None) -> None:
    """Raises ``ProtectionError`` when its issuer is known, and did not sign it.

    Args:
        certificate: DER of the new one.
        issuer: its issuer's Name, DER.
        pool: certificates among which the issuer may be.
        library: where algorithms come from. Signatures of a kind that it lacks are not checked.
    """
    candidates = []
    for each in dict.fromkeys(pool):
        with contextlib.suppress(ProtectionError):
            about = facts(each)
            if same_name(about.subject, issuer):
                candidates.append(about)
    if not candidates:
        return
    try:
        parts = decode(Certificate, certificate)
        key_id = _authority_key(parts)
    except ValueError:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "the certificate does not decode") from None
    refused = None
    for about in candidates:
        if key_id is not None and about.key_id is not None and key_id != about.key_id:
            continue
        try:
            verify_signature(
                about.spki,
                der(parts.signature_algorithm),
                der(parts.tbs_certificate),
                parts.signature.as_bytes(),
                library=library,
            )
            return
        except ProtectionError as error:
            if error.failure is not FailureInfo.BAD_ALG:
                refused = error
    if refused is not None:
        raise ProtectionError(
            "the certificate is not signed by its issuer", FailureInfo.SIGNER_NOT_TRUSTED
        ) from refused


def _authority_key(certificate: Certificate) -> bytes | None:
    """keyIdentifier of authorityKeyIdentifier."""
    value = certificate.tbs.extension("2.5.29.35")
    if value is None:
        return None
    parts = [value[start:end] for start, end in elements(value)]
    return next((unwrap(each) for each in parts if each[0] == 0x80), None)
