"""The operations, from start to end, as plain functions of ``(waits, context, ...)``.

They wait nowhere but at the two seams of ``Waits``, so the same code serves ``Session``, which waits by blocking, and a
twin that switches greenlets there.

Who does what: ``request_body`` puts certificate requests together as OpenSSL's ``OSSL_CMP_CTX`` does, which itself builds what
is rare (keyEnc, a regToken) and opens encrypted answers (``context/enrollment.py``). certConf, rr and genm are messages of
our own too, since the linked library may not have what they need: 3.0 cannot confirm a certificate signed with EdDSA (no
hashAlg), revoke by issuer and serial number, or read caCerts, rootCaKeyUpdate, certReqTemplate or crls; OpenSSLs up to 4.0.2
crash on revCerts in an rp (CVE-2026-75805), and before 4.0.1 let a root be replaced that was not the one held
(CVE-2026-42769).

Source: RFC 9810, 5.3; RFC 9483, 4.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, ParamSpec, TypeAlias, TypedDict, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from opensslcmp.asn1 import (
    NULL_DN,
    AttributeTypeAndValue,
    Certificate,
    CertRepMessage,
    CertStatus,
    CertTemplate,
    CRLStatus,
    EncryptedValue,
    Extension,
    InfoTypeAndValue,
    Null,
    PKIStatusInfo,
    RevDetails,
    admit,
    algorithm,
    decode,
    decode_info,
    der,
    encode,
    encode_info,
    encode_list,
    oids,
    outline,
    tlv,
)
from opensslcmp.client.acceptance import Asked, asked, check_issuer, check_names, check_validity
from opensslcmp.client.central import kind_asked_for, private_key_in
from opensslcmp.client.context import Context, NameSource, name_from
from opensslcmp.client.exchange import Answer, Transaction, Waits, identity_of, raise_unless_granted, status_of
from opensslcmp.client.journal import Entry, State
from opensslcmp.client.pending import Pending, StillWaiting
from opensslcmp.client.possession import Proof, answer_challenges, open_certificate, proof_for
from opensslcmp.client.recovery import archive_control
from opensslcmp.client.request import BY_DECRYPTION, algorithm_alone, request_body
from opensslcmp.client.results import (
    Info,
    Issued,
    Protection,
    RequestTemplate,
    Revoked,
    RootCaUpdate,
    certificate_of,
    crl_of,
    new_certificate_of,
)
from opensslcmp.context.certificates import Facts, facts, load_certificate
from opensslcmp.context.enrollment import EnrollmentRequest, run_enrollment
from opensslcmp.context.keys import PrivateKey, verify_signature
from opensslcmp.context.library import Library, digest
from opensslcmp.context.protection import ProtectionKind, Verified
from opensslcmp.credentials import CertificateSource, KeySource, Password
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason
from opensslcmp.errors import BadMessage, ProtectionError, Rejected, TimedOut

__all__ = [
    "CSROptions",
    "Confirm",
    "CrossOptions",
    "EnrollOptions",
    "InfoItem",
    "Result",
    "UpdateOptions",
    "Validity",
    "abandon",
    "ca_certificates",
    "cert_profile",
    "certificate_request_template",
    "checked_root_ca_update",
    "confirm_held",
    "confirmation",
    "context_of",
    "crl_update",
    "cross_certify",
    "enroll",
    "enroll_csr",
    "enroll_for",
    "enrollment_request",
    "judged",
    "request_info",
    "resume",
    "resume_entry",
    "revoke",
    "root_ca_update",
    "update",
]

Confirm: TypeAlias = Callable[[Issued], None]
"""Looks at a new certificate before it is confirmed. To refuse it, raise ``Rejected(failure, text)``: the server is told."""

Validity: TypeAlias = "tuple[datetime, datetime] | int | None"
"""The wished validity: two moments, or days from now."""

InfoItem: TypeAlias = "str | tuple[str, Any] | InfoTypeAndValue"
"""What a genm asks for: a dotted OID, one with a value (DER, or as ``encode_info`` takes it), or the structure."""


Result: TypeAlias = (
    "Issued | Revoked | tuple[Info, ...] | tuple[x509.Certificate, ...] | RootCaUpdate | RequestTemplate"
    " | x509.CertificateRevocationList | None"
)
"""What an operation that was taken up again gives, by what it was."""


class CSROptions(TypedDict, total=False):
    """Keywords of ``Session.enroll_csr``."""

    profile: str | Sequence[str] | None
    implicit_confirm: bool | None
    confirm: Any
    label: str | None


class CrossOptions(TypedDict, total=False):
    """Keywords of ``Session.cross_certify``."""

    password: bytes | None
    extensions: Iterable[x509.Extension[Any] | x509.ExtensionType]
    validity: Validity
    signing_algorithm: bytes | None
    implicit_confirm: bool | None
    confirm: Any
    label: str | None


class UpdateOptions(CSROptions, total=False):
    """Keywords of ``Session.update``."""

    generate: str | None
    password: bytes | None
    subject_alternative_names: Iterable[x509.GeneralName]
    extensions: Iterable[x509.Extension[Any] | x509.ExtensionType]
    policies: Iterable[str]
    validity: Validity
    proof: Proof | None


class EnrollOptions(UpdateOptions, total=False):
    """Keywords of ``Session.enroll``."""

    kind: Literal["ir", "cr"]
    issuer: NameSource | None
    token: str | None
    controls: Iterable[AttributeTypeAndValue]
    reg_info: Iterable[AttributeTypeAndValue]
    archive: CertificateSource | bool


P = ParamSpec("P")
R = TypeVar("R")


def _or_pending(operation: Callable[P, R]) -> Callable[P, R | Pending]:
    """The operation, which gives a ``Pending`` where it shall not wait any more."""

    @functools.wraps(operation)
    def run(*arguments: P.args, **options: P.kwargs) -> R | Pending:
        try:
            return operation(*arguments, **options)
        except StillWaiting as waiting:
            return waiting.pending

    return run


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wish:
    """What the template asks for beside the key."""

    subject_alternative_names: Iterable[x509.GeneralName] = ()
    extensions: Iterable[x509.Extension[Any] | x509.ExtensionType] = ()
    policies: Iterable[str] = ()

    def encoded(self, context: Context, *, critical_sans: bool) -> tuple[bytes | None, bool]:
        """DER of Extensions or None, and whether there are alternative names in it."""
        found: dict[str, Extension] = {}

        def add(value: x509.ExtensionType, critical: bool) -> None:
            oid = value.oid.dotted_string
            if oid in found:
                raise ValueError(f"the extension {oid} is given twice")
            found[oid] = Extension(extn_id=value.oid, critical=critical, extn_value=value.public_bytes())

        for each in self.extensions:
            if isinstance(each, x509.Extension):
                add(each.value, each.critical)
            else:
                add(each, False)
        names = list(self.subject_alternative_names)
        if names:
            add(x509.SubjectAlternativeName(names), critical_sans)
        policies = [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in self.policies]
        if policies:
            add(x509.CertificatePolicies(policies), context.policies_critical)
        has_names = x509.SubjectAlternativeName.oid.dotted_string in found
        return (encode_list(list(found.values())) if found else None), has_names


def _new_key(
    waits: Waits, context: Context, key: KeySource | None, generate: str | None, password: Password
) -> PrivateKey:
    if (key is None) is (generate is None):
        raise ValueError('either a key or generate="ec:P-256" (or another kind) is needed')
    if generate is not None:
        return waits.generate(generate, context.library)
    return PrivateKey.load(key, password, library=context.library)


def _central_or_own(
    waits: Waits, context: Context, key: KeySource | None, generate: str | None, password: Password
) -> tuple[str | None, PrivateKey | None]:
    """The kind of key that the server is to make, or our own key."""
    central = kind_asked_for(generate)
    if central is None:
        return None, _new_key(waits, context, key, generate, password)
    if key is not None:
        raise ValueError("a key is given, and the server is to make one")
    algorithm_alone(central)
    return central, None


def _spki(key: PrivateKey | None) -> bytes | None:
    return None if key is None else key.public_key_der


_Kept: TypeAlias = "tuple[bytes | None, str | None]"


def _kept(waits: Waits, own: PrivateKey, key: KeySource | None, generate: str | None) -> _Kept:
    """What the journal keeps of the private key."""
    if waits.journal is None:
        return None, None
    return waits.journal.keep(own, key, generated=generate is not None)


def _known(waits: Waits, label: str | None) -> Entry | None:
    """What the journal knows under this label."""
    if waits.journal is None or label is None:
        return None
    return waits.journal.find(label)


def _validity(context: Context, given: Validity) -> tuple[int, tuple[datetime, datetime] | None]:
    if given is None:
        return context.validity_days, None
    if isinstance(given, int):
        if given < 1:
            raise ValueError("a validity of less than a day")
        return given, None
    start, end = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC) for moment in given)
    if start >= end:
        raise ValueError("the validity ends before it begins")
    return 0, (start, end)


# -- certificates ----------------------------------------------------------------------------------------------------


@_or_pending
def enroll(
    waits: Waits,
    context: Context,
    subject: NameSource | None = None,
    key: KeySource | None = None,
    *,
    kind: Literal["ir", "cr"] = "ir",
    generate: str | None = None,
    password: Password = None,
    subject_alternative_names: Iterable[x509.GeneralName] = (),
    extensions: Iterable[x509.Extension[Any] | x509.ExtensionType] = (),
    policies: Iterable[str] = (),
    validity: Validity = None,
    issuer: NameSource | None = None,
    profile: str | Sequence[str] | None = None,
    token: str | None = None,
    controls: Iterable[AttributeTypeAndValue] = (),
    reg_info: Iterable[AttributeTypeAndValue] = (),
    archive: CertificateSource | bool = False,
    proof: Proof | None = None,
    implicit_confirm: bool | None = None,
    confirm: Confirm | None = None,
    wait: bool = True,
    label: str | None = None,
) -> Issued:
    """ir or cr, up to the confirmed certificate. ``Session.enroll`` documents the arguments."""
    if kind not in {"ir", "cr"}:
        raise ValueError(f"no such kind of enrollment: {kind}")
    if (entry := _known(waits, label)) is not None:
        return cast("Issued", _taken_up(waits, context, entry, key, password, confirm, wait))
    request = enrollment_request(
        waits,
        context,
        subject,
        key,
        kind=kind,
        generate=generate,
        password=password,
        subject_alternative_names=subject_alternative_names,
        extensions=extensions,
        policies=policies,
        validity=validity,
        issuer=issuer,
        token=token,
        controls=controls,
        reg_info=reg_info,
        archive=archive,
        proof=proof,
    )
    own = request.key
    kept = (None, None) if own is None else _kept(waits, own, key, generate)
    return _certificate(waits, context, request, profile, implicit_confirm, confirm, _spki(own), wait, label, kept)


def enrollment_request(
    waits: Waits,
    context: Context,
    subject: NameSource | None,
    key: KeySource | None,
    *,
    kind: str,
    generate: str | None,
    password: Password,
    subject_alternative_names: Iterable[x509.GeneralName],
    extensions: Iterable[x509.Extension[Any] | x509.ExtensionType],
    policies: Iterable[str],
    validity: Validity,
    issuer: NameSource | None,
    token: str | None,
    controls: Iterable[AttributeTypeAndValue] = (),
    reg_info: Iterable[AttributeTypeAndValue] = (),
    archive: CertificateSource | bool = False,
    proof: Proof | None = None,
) -> EnrollmentRequest:
    """What is asked for by an ir or cr. ``Session.enroll`` documents the arguments.

    Raises:
        ValueError: arguments that cannot be.
    """
    central, own = _central_or_own(waits, context, key, generate, password)
    wish = _Wish(subject_alternative_names=subject_alternative_names, extensions=extensions, policies=policies)
    encoded, has_names = wish.encoded(context, critical_sans=context.sans_critical or subject is None)
    if subject is None and not has_names and context.own_certificate is None:
        raise ValueError("a certificate needs a subject or a subjectAltName")
    if subject is None and not has_names and context.own_certificate is not None:
        subject = facts(context.own_certificate).subject
    days, exact = _validity(context, validity)
    named = None if subject is None else name_from(subject)
    if archive is not False:
        controls = (*controls, archive_control(own, archive, named))
    return EnrollmentRequest(
        body_type=BodyType.IR if kind == "ir" else BodyType.CR,
        key=own,
        central=central,
        subject=named,
        issuer=None if issuer is None else name_from(issuer),
        extensions=encoded,
        popo=proof_for(own, proof, context.popo) if own is not None else "none",
        digest=context.digest,
        library=context.library,
        validity_days=days,
        validity=exact,
        token=token,
        controls=b"".join(map(encode, controls)),
        reg_info=b"".join(map(encode, reg_info)),
    )


@_or_pending
def enroll_csr(
    waits: Waits,
    context: Context,
    request: x509.CertificateSigningRequest | bytes,
    *,
    profile: str | Sequence[str] | None = None,
    implicit_confirm: bool | None = None,
    confirm: Confirm | None = None,
    wait: bool = True,
    label: str | None = None,
) -> Issued:
    """p10cr, up to the confirmed certificate. ``Session.enroll_csr`` documents the arguments."""
    if (entry := _known(waits, label)) is not None:
        return cast("Issued", _taken_up(waits, context, entry, None, None, confirm, wait))
    if isinstance(request, bytes):
        load = x509.load_pem_x509_csr if request.lstrip().startswith(b"-----") else x509.load_der_x509_csr
        request = load(request)
    spki = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    wanted = EnrollmentRequest(
        body_type=BodyType.P10CR, request=request.public_bytes(Encoding.DER), library=context.library
    )
    return _certificate(waits, context, wanted, profile, implicit_confirm, confirm, spki, wait, label, (None, None))


@_or_pending
def update(
    waits: Waits,
    context: Context,
    certificate: CertificateSource | None = None,
    key: KeySource | None = None,
    *,
    generate: str | None = None,
    password: Password = None,
    subject: NameSource | None = None,
    subject_alternative_names: Iterable[x509.GeneralName] = (),
    extensions: Iterable[x509.Extension[Any] | x509.ExtensionType] = (),
    policies: Iterable[str] = (),
    validity: Validity = None,
    profile: str | Sequence[str] | None = None,
    proof: Proof | None = None,
    implicit_confirm: bool | None = None,
    confirm: Confirm | None = None,
    wait: bool = True,
    label: str | None = None,
) -> Issued:
    """kur, up to the confirmed certificate. ``Session.update`` documents the arguments."""
    if (entry := _known(waits, label)) is not None:
        return cast("Issued", _taken_up(waits, context, entry, key, password, confirm, wait))
    old = context.own_certificate if certificate is None else load_certificate(certificate)
    if old is None:
        raise ValueError("which certificate is to be updated?")
    central, own = _central_or_own(waits, context, key, generate, password)
    wish = _Wish(subject_alternative_names=subject_alternative_names, extensions=extensions, policies=policies)
    encoded, has_names = wish.encoded(context, critical_sans=context.sans_critical)
    days, exact = _validity(context, validity)
    request = EnrollmentRequest(
        body_type=BodyType.KUR,
        key=own,
        subject=None if subject is None else name_from(subject),
        old_certificate=old,
        central=central,
        extensions=encoded,
        popo=proof_for(own, proof, context.popo) if own is not None else "none",
        digest=context.digest,
        library=context.library,
        validity_days=days,
        validity=exact,
        default_sans=context.default_sans and not has_names,
    )
    kept = (None, None) if own is None else _kept(waits, own, key, generate)
    return _certificate(waits, context, request, profile, implicit_confirm, confirm, _spki(own), wait, label, kept)


@_or_pending
def cross_certify(
    waits: Waits,
    context: Context,
    issuer: CertificateSource,
    certificate: CertificateSource | None = None,
    key: KeySource | None = None,
    *,
    password: Password = None,
    extensions: Iterable[x509.Extension[Any] | x509.ExtensionType] = (),
    validity: Validity = 365,
    signing_algorithm: bytes | None = None,
    implicit_confirm: bool | None = None,
    confirm: Confirm | None = None,
    wait: bool = True,
    label: str | None = None,
) -> Issued:
    """ccr, up to the confirmed cross-certificate. ``Session.cross_certify`` documents the arguments."""
    if (entry := _known(waits, label)) is not None:
        return cast("Issued", _taken_up(waits, context, entry, key, password, confirm, wait))
    ours = context.own_certificate if certificate is None else load_certificate(certificate)
    own = context.own_key if key is None else PrivateKey.load(key, password, library=context.library)
    if ours is None or own is None:
        raise ValueError("cross-certification needs the certificate and the key of the CA that asks")
    about, other = facts(ours), load_certificate(issuer)
    if about.spki != own.public_key_der:
        raise ValueError("the key is not that of the certificate")
    if signing_algorithm is None:
        if facts(other).subject != facts(other).issuer:
            raise ValueError("signing_algorithm is needed: the issuer's certificate is by another key than its own")
        signing_algorithm = der(decode(Certificate, other).signature_algorithm)
    encoded, _ = _Wish(extensions=extensions).encoded(context, critical_sans=False)
    days, exact = _validity(context, validity)
    request = EnrollmentRequest(
        body_type=BodyType.CCR,
        key=own,
        subject=about.subject,
        issuer=facts(other).subject,
        extensions=encoded,
        digest=context.digest,
        library=context.library,
        validity_days=days or 365,
        validity=exact,
        signing_algorithm=signing_algorithm,
    )
    return _certificate(
        waits,
        context,
        request,
        None,
        implicit_confirm,
        confirm,
        own.public_key_der,
        wait,
        label,
        _kept(waits, own, key, None),
    )


def _certificate(
    waits: Waits,
    context: Context,
    request: EnrollmentRequest,
    profile: str | Sequence[str] | None,
    implicit_confirm: bool | None,
    confirm: Confirm | None,
    spki: bytes | None,
    wait: bool,
    label: str | None,
    kept: _Kept,
) -> Issued:
    """The exchange for any certificate request."""
    ask = context.implicit_confirm if implicit_confirm is None else implicit_confirm
    info: list[InfoTypeAndValue] = []
    if ask:
        info.append(encode_info(oids.IT_IMPLICIT_CONFIRM, Null()))
    info += cert_profile(profile)
    wanted = asked(request) if context.check_certificate else Asked()
    pending = Pending(
        kind=request.body_type,
        asked=request.body_type,
        public_key=spki,
        subject=wanted.subject,
        names=wanted.names,
        begins=wanted.begins,
        popo=request.popo,
        implicit_confirm=ask,
        label=label,
        key=request.key,
    )
    recipient = _recipient(context, request)
    with Transaction(waits, context, recipient=recipient, pending=pending, wait=wait, key=kept) as transaction:

        def ask_for(body_type: BodyType, body: bytes) -> Answer:
            return transaction.round_trip(body_type, body, info, pvno=2 if request.central is None else 3)

        return _concluded(transaction, context, request, ask_for, pending, confirm)


def _concluded(
    transaction: Transaction,
    context: Context,
    request: EnrollmentRequest,
    ask_for: Callable[[BodyType, bytes], Answer],
    pending: Pending,
    confirm: Confirm | None,
    *,
    body: bytes | None = None,
    hold: bool = False,
) -> Issued:
    """From the request to its answer, our own checks, the caller's, and the confirmation.

    Args:
        body: of the request, when it is not to be made.
        hold: a certificate that passed is confirmed later, by ``confirm_held``.
    """
    if request.popo in _ENCRYPTED and not _is_central(pending):
        found: list[Answer] = []

        def exchange(body_type: BodyType, body: bytes) -> tuple[BodyType, bytes]:
            answer = ask_for(body_type, body)
            _admit_certificate(answer, transaction, pending.kind, request.popo)
            found.append(answer)
            return _ANSWERS[body_type], answer.message.body_der

        certificate = run_enrollment(request, exchange)
        answer = found[0]
    else:
        # One that is taken up again was built, and signed with the key, by whom it began with.
        if body is not None:
            built = request.body_type, body
        else:
            built = (BodyType.IR, b"") if pending.transaction_id else request_body(request)
        answer = ask_for(*built)
        if answer.message.body_type is BodyType.POPDECC:
            answer = transaction.challenged(answer_challenges(answer.content, answer.message.header, _own(request)))
        _admit_certificate(answer, transaction, pending.kind, request.popo, central=_is_central(pending))
        certificate = _certificate_in(answer, request)
    response = answer.content.response[0]
    issued, refusal = judged(context, pending, answer, certificate, request.key, transaction.transaction_id, confirm)
    granted = pending.implicit_confirm and answer.message.implicit_confirm
    if granted:
        transaction.close()
        issued = replace(issued, implicitly_confirmed=True)
    elif not context.disable_confirm:
        transaction.holds(answer.message.der, None if refusal is None else str(refusal) or type(refusal).__name__)
        if hold and refusal is None:
            transaction.held()
            return issued
        _confirm(transaction, certificate, issued.certificate, response.cert_req_id, refusal)
    if refusal is not None:
        transaction.close()
        raise refusal
    transaction.done(answer.message.der)
    return issued


def judged(
    context: Context,
    pending: Pending,
    answer: Answer,
    certificate: bytes,
    key: PrivateKey | None,
    transaction_id: bytes,
    confirm: Confirm | None,
) -> tuple[Issued, Exception | None]:
    """A certificate that came, and why it is refused, if it is.

    Args:
        answer: with the one response that brought it.
        certificate: DER.
        confirm: the caller's check, after ours.

    Raises:
        BadMessage: it is none.
    """
    parsed, outlined = new_certificate_of(certificate), _outline(certificate)
    issued = _issued(context, answer, parsed, outlined, key, transaction_id)
    try:
        if _is_central(pending):
            issued = replace(issued, key=private_key_in(context, answer, certificate))
        _check_key(pending, certificate, outlined[2])
        if context.check_certificate:
            _check_certificate(context, pending, answer, certificate, issued, outlined)
        if context.certificate_trust is not None:
            issued = replace(issued, chain=_path(context, answer, certificate))
        if confirm is not None:
            confirm(issued)
    except Exception as error:
        return issued, error
    return issued, None


def _check_certificate(
    context: Context,
    pending: Pending,
    answer: Answer,
    certificate: bytes,
    issued: Issued,
    outlined: tuple[bytes, bytes, bytes],
) -> None:
    """Raises ``BadMessage`` or ``ProtectionError`` for one that is not as it should be."""
    subject, issuer, _ = outlined
    wanted = Asked(pending.subject, pending.names, pending.begins)
    if issued.status is not PKIStatus.GRANTED_WITH_MODS:
        check_names(wanted, certificate, subject)
    check_validity(wanted, issued.certificate)
    if context.certificate_trust is None:
        own = () if context.protector is None else context.protector.certificates[1:]
        pool = (*answer.verified.chain, *own, *context.trusted, *context.untrusted, *_ca_pubs(answer))
        check_issuer(certificate, issuer, pool, context.library)


def _path(context: Context, answer: Answer, certificate: bytes) -> tuple[x509.Certificate, ...]:
    """The chain of a new certificate to an anchor for such."""
    assert context.certificate_trust is not None
    pool = [*answer.message.extra_certs, *_ca_pubs(answer)]
    return tuple(certificate_of(each) for each in context.certificate_trust.path(certificate, pool)[1:])


@_or_pending
def enroll_for(
    waits: Waits,
    context: Context,
    body_type: BodyType,
    body: bytes,
    public_key: bytes,
    info: Sequence[InfoTypeAndValue] = (),
    *,
    popo: Literal["signature", "raVerified"] = "raVerified",
    confirm: Confirm | None = None,
    hold: bool = False,
    wait: bool = True,
    label: str | None = None,
) -> Issued:
    """A certificate for somebody else, whose private key is not ours: what a registration authority asks for.

    Args:
        body_type: IR, CR or P10CR.
        body: of the request (DER), with one certificate request under certReqId 0.
        public_key: SubjectPublicKeyInfo (DER) in it.
        info: for the header.
        popo: how possession of the key was proved.
        hold: leave the certificate unconfirmed; ``confirm_held`` is to be called with the entry of the journal.
        confirm, wait, label: as for ``Session.enroll``.

    Raises:
        as ``Session.enroll``.

    Source: RFC 9483, 5.2.3.
    """
    request = EnrollmentRequest(
        body_type=body_type, key=None, subject=_ANY_NAME, popo=popo, digest=context.digest, library=context.library
    )
    pending = Pending(kind=body_type, asked=body_type, public_key=public_key, popo=popo, label=label)
    with Transaction(waits, context, pending=pending, wait=wait) as transaction:

        def ask_for(kind: BodyType, content: bytes) -> Answer:
            return transaction.round_trip(kind, content, info)

        return _concluded(transaction, context, request, ask_for, pending, confirm, body=body, hold=hold)


@_or_pending
def confirm_held(waits: Waits, context: Context, entry: Entry, refusal: Exception | None = None) -> Issued:
    """A certificate that was held is confirmed, or refused.

    Args:
        entry: of the journal, as it stands.
        refusal: why it is not wanted, for the server; None: it is.

    Raises:
        ValueError: nothing is held there.
        as ``Session.enroll``; not ``refusal``.
    """
    pending = Pending.load(entry.pending)
    if not pending.is_held or entry.state is not State.OPEN:
        raise ValueError("no certificate waits for its confirmation there")
    _belongs(context, pending, None)
    request = EnrollmentRequest(body_type=BodyType.IR, key=None, subject=_ANY_NAME, popo=pending.popo)
    issued = _rebuilt(context, pending, request)
    response_id = admit(pending.answer or b"", limits=context.limits).content().response[0].cert_req_id
    if refusal is not None:
        pending = replace(pending, refusal=str(refusal) or type(refusal).__name__)
    certificate = issued.certificate.public_bytes(Encoding.DER)
    with Transaction(waits, context, pending=pending, wait=False) as transaction:
        _confirm(transaction, certificate, issued.certificate, response_id, refusal)
        transaction.done(pending.answer)
    return issued


# -- taking up again -------------------------------------------------------------------------------------------------


@_or_pending
def resume(
    waits: Waits,
    context: Context,
    pending: Pending,
    key: KeySource | None = None,
    *,
    password: Password = None,
    confirm: Confirm | None = None,
    wait: bool = True,
) -> Result:
    """What a ``Pending`` was about. ``Session.resume`` documents the arguments."""
    own = pending.key if key is None else PrivateKey.load(key, password, library=context.library)
    return cast("Result", _resumed(waits, context, pending, own, None, confirm, wait))


@_or_pending
def resume_entry(
    waits: Waits,
    context: Context,
    entry: Entry,
    key: KeySource | None = None,
    *,
    password: Password = None,
    confirm: Confirm | None = None,
    wait: bool = True,
    hold: bool = False,
) -> Result:
    """What an entry of the journal was about; of one that is done the result as it was.

    Args:
        key: the private key, when the journal does not have it.
        password: opens the key's file.
        hold: as for ``enroll_for``.
    """
    return cast("Result", _taken_up(waits, context, entry, key, password, confirm, wait, hold))


def _taken_up(
    waits: Waits,
    context: Context,
    entry: Entry,
    key: KeySource | None,
    password: Password,
    confirm: Confirm | None,
    wait: bool,
    hold: bool = False,
) -> Any:
    """The result of an entry of the journal."""
    own = None if waits.journal is None else waits.journal.key_of(entry, password, context.library)
    if own is None and key is not None:
        own = PrivateKey.load(key, password, library=context.library)
    pending = Pending.load(entry.pending)
    if entry.state is State.DONE:
        return _done_before(waits, context, pending, own)
    _belongs(context, pending, own)
    if (
        entry.message is not None
        and pending.sent in _ANSWERS
        and time.time() - entry.recorded > context.max_resend_seconds
    ):
        # The server may have forgotten what it answered, and would issue another certificate.
        raise TimedOut(
            f"the request was written down more than {context.max_resend_seconds:g} seconds ago and has no answer that we know "
            f"of; whether there is a certificate only the server can tell (transaction {pending.transaction_id.hex()})"
        )
    return _resumed(waits, context, pending, own, entry.message, confirm, wait, hold)


def context_of(entry: Entry, contexts: Sequence[Context]) -> Context:
    """The context whose credential began the entry; the first where none did."""
    identity = Pending.load(entry.pending).identity
    for context in contexts:
        if context.protector is not None and identity_of(context.protector.identity) == identity:
            return context
    return contexts[0]


def _belongs(context: Context, pending: Pending, own: PrivateKey | None) -> None:
    """Raises ``ValueError`` when another party, or another key, began it."""
    protector = context.protector
    if pending.identity != (b"" if protector is None else identity_of(protector.identity)):
        raise ValueError("the transaction was begun with another credential than the context has")
    if own is not None and own.public_key_der != pending.public_key:
        raise ValueError("the key is not the one that the certificate was asked for")


def _resumed(
    waits: Waits,
    context: Context,
    pending: Pending,
    own: PrivateKey | None,
    message: bytes | None,
    confirm: Confirm | None,
    wait: bool,
    hold: bool = False,
) -> Any:
    _belongs(context, pending, own)
    if pending.is_held and message is None:
        request = EnrollmentRequest(body_type=BodyType.IR, key=own, subject=_ANY_NAME, popo=pending.popo)
        return _rebuilt(context, pending, request)
    if message is None and pending.waiting_for is None:
        raise ValueError("the transaction does not wait for anything")
    if own is None and pending.popo in {*_ENCRYPTED, *BY_DECRYPTION} and pending.public_key is not None:
        raise ValueError("the private key is needed to open the answer")
    pending = replace(pending, key=own)
    with Transaction(waits, context, pending=pending, wait=wait) as transaction:
        if pending.kind is BodyType.RR:
            if pending.issuer is None or pending.serial_number is None:
                raise ValueError("a saved Pending that does not say which certificate is to be revoked")
            answer = transaction.resumed(message)
            return _revoked(transaction, answer, pending.issuer, pending.serial_number)
        if pending.kind is BodyType.GENM:
            _held(context, pending)  # before anything is asked
            return _told(context, transaction.resumed(message), pending)
        request = EnrollmentRequest(
            body_type=BodyType.IR, key=own, subject=_ANY_NAME, popo=pending.popo, digest=context.digest
        )
        if pending.asked is not BodyType.CERT_CONF:

            def ask_for(body_type: BodyType, body: bytes) -> Answer:
                return transaction.resumed(message)

            return _concluded(transaction, context, request, ask_for, pending, confirm, hold=hold)
        issued = _rebuilt(context, pending, request)
        transaction.resumed(message)
        if pending.refusal is not None:
            transaction.close()
            raise Rejected(FailureInfo.INCORRECT_DATA, pending.refusal)
        transaction.done(pending.answer)
        return issued


_ANY_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "resumed")]).public_bytes()


def _done_before(waits: Waits, context: Context, pending: Pending, own: PrivateKey | None) -> Issued:
    """The result of a transaction that is over."""
    if pending.answer is None:
        raise ValueError(f"the label {pending.label!r} belongs to something else than a certificate")
    _belongs(context, pending, own)
    request = EnrollmentRequest(body_type=BodyType.IR, key=own, subject=_ANY_NAME, popo=pending.popo)
    return _rebuilt(context, pending, request)


def _rebuilt(context: Context, pending: Pending, request: EnrollmentRequest) -> Issued:
    """What a saved answer brought. It is verified again: it may come from where others can write."""
    message = admit(pending.answer or b"", limits=context.limits, accept=frozenset(_ANSWERS.values()))
    if message.transaction_id != pending.transaction_id:
        raise BadMessage(FailureInfo.BAD_REQUEST, "the saved answer belongs to another transaction")
    verified = context.verify(message, () if pending.signer is None else (pending.signer,))
    if verified.kind is ProtectionKind.NONE and not context.unprotected_errors:
        raise ProtectionError("the saved answer is not protected", FailureInfo.WRONG_INTEGRITY)
    answer = Answer(message, message.content(), verified)
    _admit_certificate(answer, None, pending.kind, pending.popo, central=_is_central(pending))
    if request.popo in _ENCRYPTED and not _is_central(pending):
        certificate = run_enrollment(request, lambda body_type, body: (_ANSWERS[body_type], message.body_der))
    else:
        certificate = _certificate_in(answer, request)
    outlined = _outline(certificate)
    _check_key(pending, certificate, outlined[2])
    key = private_key_in(context, answer, certificate) if _is_central(pending) else request.key
    issued = _issued(context, answer, new_certificate_of(certificate), outlined, key, pending.transaction_id)
    if context.certificate_trust is not None:
        issued = replace(issued, chain=_path(context, answer, certificate))
    return replace(issued, implicitly_confirmed=pending.implicit_confirm and message.implicit_confirm)


def abandon(waits: Waits, context: Context, pending: Pending) -> None:
    """The server is told that nobody waits. ``Session.abandon`` documents it."""
    _belongs(context, pending, None)
    Transaction(waits, context, pending=pending).abandon()


def _recipient(context: Context, request: EnrollmentRequest) -> bytes | None:
    if context.recipient != NULL_DN:
        return None
    if request.issuer is not None:
        return request.issuer
    return None if request.old_certificate is None else facts(request.old_certificate).issuer


def cert_profile(profile: str | Sequence[str] | None) -> list[InfoTypeAndValue]:
    """certProfile for a header; nothing for None."""
    if profile is None:
        return []
    names = [profile] if isinstance(profile, str) else list(profile)
    return [encode_info(oids.IT_CERT_PROFILE, names)]


_ENCRYPTED = frozenset(("keyEnc", "none"))
"""Proofs of possession whose answers may hold something encrypted, which is OpenSSL's to open."""


_ANSWERS = {
    BodyType.IR: BodyType.IP,
    BodyType.CR: BodyType.CP,
    BodyType.P10CR: BodyType.CP,
    BodyType.KUR: BodyType.KUP,
    BodyType.CCR: BodyType.CCP,
}


def _is_central(pending: Pending) -> bool:
    """The server was asked to make the key."""
    return pending.popo == "none" and pending.public_key is None


def _admit_certificate(
    answer: Answer, transaction: Transaction | None, kind: BodyType, popo: str, *, central: bool = False
) -> None:
    """What OpenSSL asks of an answer: one response, to our request, granted, with a certificate."""
    content: CertRepMessage = answer.content
    if len(content.response) != 1:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"{len(content.response)} responses to one request")
    response = content.response[0]
    # A PKCS#10 request has no certReqId; servers answer -1 (RFC 9483, 4.1.4) or 0.
    if response.cert_req_id != 0 and not (kind is BodyType.P10CR and response.cert_req_id == -1):
        raise BadMessage(FailureInfo.BAD_REQUEST, f"the answer is about request {response.cert_req_id}")
    try:
        raise_unless_granted(response.status)
    except Rejected:
        if transaction is not None:
            transaction.close()
        raise
    if response.certificate is None:
        if popo == "indirect":
            return
        if popo not in _ENCRYPTED or central:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "the answer holds no certificate in clear")
        # An EncryptedValue makes OpenSSLs without the fix of CVE-2026-42767 read a NULL pointer.
        _check_encrypted(response)


def _own(request: EnrollmentRequest) -> PrivateKey:
    if request.key is None:
        raise ValueError("the private key is needed to prove possession of it")
    return request.key


def _certificate_in(answer: Answer, request: EnrollmentRequest) -> bytes:
    """The certificate of an answer that ``_admit_certificate`` let through."""
    response = answer.content.response[0]
    certificate: bytes | None = response.certificate
    return open_certificate(response, _own(request)) if certificate is None else certificate


def _check_encrypted(response: Any) -> None:
    pair = response.certified_key_pair
    if pair is None:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "the answer holds no certificate")
    value = pair.cert_or_enc_cert.value
    if value.tag_bytes != b"0":
        return
    try:
        encrypted = value.parse(EncryptedValue)
        whole = encrypted.symm_alg is not None and encrypted.enc_symm_key is not None and encrypted.key_alg is not None
    except ValueError:
        whole = False
    if not whole:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "an EncryptedValue that lacks its key or algorithms")


def _check_key(pending: Pending, certificate: bytes, found: bytes) -> None:
    """Raises ``BadMessage`` when the certificate is for another key than was asked for."""
    spki = pending.public_key
    if pending.popo == "none" or spki is None or found == spki or _same_key(certificate, spki):
        return
    raise BadMessage(FailureInfo.INCORRECT_DATA, "the certificate is for another key than ours")


def _same_key(certificate: bytes, spki: bytes) -> bool:
    """The same public key written otherwise (a compressed point, absent parameters)."""
    try:
        return bool(new_certificate_of(certificate).public_key() == load_der_public_key(spki))
    except (BadMessage, ValueError, TypeError, UnsupportedAlgorithm):
        return False


_SHA512 = "2.16.840.1.101.3.4.2.3"


def _hash(name: str, data: bytes, library: Library | None) -> bytes:
    if library is not None:
        return digest(name.upper(), data, library)
    return hashlib.new(name.replace("-", "_"), data).digest()


def _confirm(
    transaction: Transaction,
    certificate: bytes,
    parsed: x509.Certificate,
    request_id: int,
    refusal: BaseException | None,
) -> None:
    """certConf -> pkiConf."""
    item = confirmation(certificate, parsed, request_id, refusal, transaction.library)
    transaction.round_trip(BodyType.CERT_CONF, [item], pvno=2 if item.hash_alg is None else 3)


def confirmation(
    certificate: bytes,
    parsed: x509.Certificate,
    request_id: int,
    refusal: BaseException | None,
    library: Library | None,
) -> CertStatus:
    """What a certConf says of a certificate; with a hashAlg it takes pvno 3. Source: RFC 9810, 5.3.18."""
    try:
        found = parsed.signature_hash_algorithm
        named = None if found is None else found.name
        value = _hash(named or "sha512", certificate, library)
    except (UnsupportedAlgorithm, ValueError):
        named, value = None, _hash("sha512", certificate, library)
    status = None
    if refusal is not None:
        failure: FailureInfo | None = FailureInfo.INCORRECT_DATA
        text: tuple[str, ...] = ("the client did not accept the certificate",)
        if isinstance(refusal, Rejected):
            failure, text = refusal.failure, refusal.text or text
        elif isinstance(refusal, BadMessage):
            failure, text = refusal.failure, (refusal.text,)
        elif isinstance(refusal, ProtectionError):
            text = ("the client does not trust the issuer of the certificate",)
        status = PKIStatusInfo.make(PKIStatus.REJECTION, *text, failure=failure)
    # A signature algorithm without a hash of its own: name one, which takes pvno 3 (RFC 9810, 5.3.18).
    return CertStatus(
        cert_hash=value,
        cert_req_id=request_id,
        status_info=status,
        hash_alg=algorithm(_SHA512) if named is None else None,
    )


def _ca_pubs(answer: Answer) -> tuple[bytes, ...]:
    return tuple([der(each) for each in answer.content.ca_pubs or ()])


def _issued(
    context: Context,
    answer: Answer,
    certificate: x509.Certificate,
    outlined: tuple[bytes, bytes, bytes],
    key: PrivateKey | None,
    transaction_id: bytes,
) -> Issued:
    message = answer.message
    info = answer.content.response[0].status
    ca_pubs = _ca_pubs(answer)
    pool = (*message.extra_certs, *ca_pubs, *context.untrusted, *context.trusted, *answer.verified.chain)
    subject, issuer, _ = outlined
    return Issued(
        certificate=certificate,
        key=key,
        chain=() if subject == issuer else _issuers(issuer, pool),
        ca_certificates=_certificates(ca_pubs),
        extra_certificates=_readable(message.extra_certs),
        status=status_of(info),
        status_text=info.text,
        failures=info.failures,
        protection=_protection(answer.verified),
        transaction_id=transaction_id,
    )


# What surrounds a new certificate is the same each time, so it is remembered.


@lru_cache(maxsize=64)
def _certificates(certificates: tuple[bytes, ...]) -> tuple[x509.Certificate, ...]:
    return tuple([certificate_of(each) for each in certificates])


@lru_cache(maxsize=64)
def _readable(certificates: tuple[bytes, ...]) -> tuple[x509.Certificate, ...]:
    """Those that decode: extraCerts are nobody's promise, and need not concern us."""
    found: list[x509.Certificate] = []
    for each in certificates:
        with contextlib.suppress(BadMessage):
            found.append(certificate_of(each))
    return tuple(found)


def _protection(verified: Verified) -> Protection:
    return Protection(
        kind=verified.kind,
        algorithm=verified.algorithm,
        reference=verified.reference,
        signer=None if verified.certificate is None else certificate_of(verified.certificate),
        chain=_certificates(verified.chain),
    )


@lru_cache(maxsize=64)
def _issuers(name: bytes, pool: tuple[bytes, ...]) -> tuple[x509.Certificate, ...]:
    """Issuer after issuer, by name, the one called ``name`` first, as far as they are in ``pool``."""
    by_name: dict[bytes, bytes] = {}
    for each in pool:
        with contextlib.suppress(ProtectionError, BadMessage):
            certificate_of(each)
            by_name.setdefault(facts(each).subject, each)
    chain: list[bytes] = []
    while len(chain) < 10:
        issuer = by_name.get(name)
        if issuer is None or issuer in chain:
            break
        chain.append(issuer)
        about = facts(issuer)
        if about.issuer == about.subject:
            break
        name = about.issuer
    return _certificates(tuple(chain))


def _outline(certificate: bytes) -> tuple[bytes, bytes, bytes]:
    """Subject, issuer and SubjectPublicKeyInfo of a new certificate: facts are for those that come again."""
    try:
        _, issuer, _, subject, spki = outline(certificate)
    except ValueError:
        about = facts(certificate)
        return about.subject, about.issuer, about.spki
    return subject, issuer, spki


# -- revocation ------------------------------------------------------------------------------------------------------


@_or_pending
def revoke(
    waits: Waits,
    context: Context,
    certificate: CertificateSource | None = None,
    *,
    issuer: NameSource | None = None,
    serial_number: int | None = None,
    reason: RevocationReason | None = None,
    wait: bool = True,
) -> Revoked:
    """rr for one certificate. ``Session.revoke`` documents the arguments."""
    if certificate is None and issuer is None and serial_number is None:
        certificate = context.own_certificate
        if certificate is None:
            raise ValueError("which certificate is to be revoked?")
    if certificate is not None:
        if issuer is not None or serial_number is not None:
            raise ValueError("either a certificate, or issuer and serial_number")
        about = facts(load_certificate(certificate))
        issuer, serial_number = about.issuer, about.serial_number
    if issuer is None or serial_number is None:
        raise ValueError("issuer and serial_number are needed together")
    issuer_der = name_from(issuer)
    # RFC 9483, 4.2: unspecified when there is no reason to tell, and not nothing.
    code = x509.CRLReason(_REASONS[RevocationReason.UNSPECIFIED if reason is None else RevocationReason(reason)])
    entry = [Extension(extn_id=code.oid, extn_value=code.public_bytes())]
    details = RevDetails(
        cert_details=CertTemplate(serial_number=serial_number, issuer=tlv(issuer_der)), crl_entry_details=entry
    )
    recipient = issuer_der if context.recipient == NULL_DN else None
    pending = Pending(kind=BodyType.RR, asked=BodyType.RR, issuer=issuer_der, serial_number=serial_number)
    with Transaction(waits, context, recipient=recipient, pending=pending, wait=wait) as transaction:
        return _revoked(transaction, transaction.round_trip(BodyType.RR, [details]), issuer_der, serial_number)


def _revoked(transaction: Transaction, answer: Answer, issuer_der: bytes, serial_number: int) -> Revoked:
    """What an rp says of this certificate."""
    transaction.close()
    content = answer.content
    if len(content.status) != 1:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"{len(content.status)} answers to one revocation")
    info = content.status[0]
    status = status_of(info)
    if status not in {
        PKIStatus.ACCEPTED,
        PKIStatus.GRANTED_WITH_MODS,
        PKIStatus.REVOCATION_WARNING,
        PKIStatus.REVOCATION_NOTIFICATION,
    }:
        raise_unless_granted(info)
    for each in content.rev_certs or ():
        if each.serial_number != serial_number or each.issuer_der != issuer_der:
            raise BadMessage(FailureInfo.BAD_CERT_ID, "the answer is about another certificate")
    transaction.done()
    return Revoked(
        status=status,
        status_text=info.text,
        failures=info.failures,
        crls=tuple(crl_of(der(each)) for each in content.crls or ()),
        extra_certificates=_readable(answer.message.extra_certs),
        protection=_protection(answer.verified),
        transaction_id=transaction.transaction_id,
    )


_REASONS = {
    RevocationReason.UNSPECIFIED: x509.ReasonFlags.unspecified,
    RevocationReason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    RevocationReason.CA_COMPROMISE: x509.ReasonFlags.ca_compromise,
    RevocationReason.AFFILIATION_CHANGED: x509.ReasonFlags.affiliation_changed,
    RevocationReason.SUPERSEDED: x509.ReasonFlags.superseded,
    RevocationReason.CESSATION_OF_OPERATION: x509.ReasonFlags.cessation_of_operation,
    RevocationReason.CERTIFICATE_HOLD: x509.ReasonFlags.certificate_hold,
    RevocationReason.REMOVE_FROM_CRL: x509.ReasonFlags.remove_from_crl,
    RevocationReason.PRIVILEGE_WITHDRAWN: x509.ReasonFlags.privilege_withdrawn,
    RevocationReason.AA_COMPROMISE: x509.ReasonFlags.aa_compromise,
}


# -- information -----------------------------------------------------------------------------------------------------


@_or_pending
def request_info(
    waits: Waits,
    context: Context,
    *items: InfoItem,
    profile: str | Sequence[str] | None = None,
    wait: bool = True,
) -> tuple[Info, ...]:
    """genm. ``Session.request_info`` documents the arguments."""
    asked = [_item(each) for each in items]
    return cast("tuple[Info, ...]", _asked(waits, context, asked, _genm(), profile, wait))


def _genm(question: str | None = None, **about: Any) -> Pending:
    return Pending(kind=BodyType.GENM, asked=BodyType.GENM, question=question, **about)


def _asked(
    waits: Waits,
    context: Context,
    items: list[InfoTypeAndValue],
    pending: Pending,
    profile: str | Sequence[str] | None,
    wait: bool,
) -> Any:
    """The exchange for any genm."""
    with Transaction(waits, context, pending=pending, wait=wait) as transaction:
        return _told(context, transaction.round_trip(BodyType.GENM, items, cert_profile(profile)), pending)


def _told(context: Context, answer: Answer, pending: Pending) -> Any:
    """What a genp says, by what was asked."""
    match pending.question:
        case None:
            return _infos(answer)
        case oids.IT_CA_CERTS:
            found = _value_in(answer.content, oids.IT_CA_CERTS)
            return tuple(certificate_of(each) for each in found or ())
        case oids.IT_ROOT_CA_CERT:
            content = _value_in(answer.content, oids.IT_ROOT_CA_KEY_UPDATE)
            old = _held(context, pending)
            if old is None:
                raise ValueError("a saved Pending that does not say which root is to be updated")
            return None if content is None else checked_root_ca_update(old, content, context.library)
        case oids.IT_CERT_REQ_TEMPLATE:
            return _template(_value_in(answer.content, oids.IT_CERT_REQ_TEMPLATE))
        case oids.IT_CRL_STATUS_LIST:
            return _crl(context, answer, pending)
    raise ValueError(f"a saved Pending about {pending.question}, which is no question of ours")


def _fingerprint(certificate: bytes) -> bytes:
    return facts(certificate).fingerprint


def _held(context: Context, pending: Pending) -> bytes | None:
    """The certificate that the answer is checked against. One that was saved is only a hash: who changes it gains nothing."""
    if pending.fingerprint is None or pending.held is not None:
        return pending.held
    for each in (*context.trusted, *context.untrusted):
        if _fingerprint(each) == pending.fingerprint:
            return each
    raise ValueError("the certificate that the answer is checked against is not among those of the context")


def _infos(answer: Answer) -> tuple[Info, ...]:
    return tuple(
        Info(oid=each.oid, name=oids.name_of(each.oid), value=each.value_der, decoded=decode_info(each))
        for each in answer.content
    )


def _item(given: InfoItem) -> InfoTypeAndValue:
    if isinstance(given, InfoTypeAndValue):
        return given
    oid, value = (given, None) if isinstance(given, str) else given
    return InfoTypeAndValue.make(oid, value) if isinstance(value, bytes) else encode_info(oid, value)


def _value_in(items: Iterable[InfoTypeAndValue], oid: str) -> Any:
    """The decoded value of the first item of this type."""
    for each in items:
        if each.oid == oid:
            return decode_info(each)
    raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"the answer holds no {oids.name_of(oid)}")


@_or_pending
def ca_certificates(waits: Waits, context: Context, *, wait: bool = True) -> tuple[x509.Certificate, ...]:
    """genm caCerts. Source: RFC 9483, 4.3.1."""
    oid = oids.IT_CA_CERTS
    return cast(
        "tuple[x509.Certificate, ...]", _asked(waits, context, [encode_info(oid, None)], _genm(oid), None, wait)
    )


@_or_pending
def root_ca_update(
    waits: Waits, context: Context, root: CertificateSource | None = None, *, wait: bool = True
) -> RootCaUpdate | None:
    """genm rootCaCert. ``Session.root_ca_update`` documents the arguments."""
    if root is None:
        if len(context.trusted) != 1:
            raise ValueError("which root is to be updated?")
        old = context.trusted[0]
    else:
        old = load_certificate(root)
    pending = _genm(oids.IT_ROOT_CA_CERT, held=old, fingerprint=_fingerprint(old))
    items = [encode_info(oids.IT_ROOT_CA_CERT, old)]
    return cast("RootCaUpdate | None", _asked(waits, context, items, pending, None, wait))


def checked_root_ca_update(old: bytes, content: Any, library: Library | None = None) -> RootCaUpdate:
    """A RootCaKeyUpdate (``asn1``), believed because the key of ``old`` (DER) signed it.

    Args:
        library: where algorithms come from.

    Checked: newWithOld is by the old root's key and name and for newWithNew's; newWithNew is self-signed; oldWithNew, where it is
    there, is by the new key and name and for the old ones; key identifiers that are given agree; all are in force, for CAs, and
    may sign certificates, and so may the old root.

    Raises:
        ProtectionError: nothing ties the new root to the old one.

    Source: RFC 9483, 4.3.2; RFC 9810, 4.4; RFC 5280, 4.2.1.1 to 4.2.1.3.
    """
    new = der(content.new_with_new)
    cross = None if content.new_with_old is None else der(content.new_with_old)
    back = None if content.old_with_new is None else der(content.old_with_new)
    if cross is None:
        raise ProtectionError("nothing ties the new root to the old one", FailureInfo.SIGNER_NOT_TRUSTED)
    before, after, bridge = facts(old), facts(new), facts(cross)
    if after.subject != after.issuer or bridge.spki != after.spki or bridge.subject != after.subject:
        raise ProtectionError("newWithNew and newWithOld do not belong together", FailureInfo.SIGNER_NOT_TRUSTED)
    _signed_by(new, after.spki, library)
    _signed_by(cross, before.spki, library)
    if bridge.issuer != before.subject:
        raise ProtectionError("newWithOld is not by the old root", FailureInfo.SIGNER_NOT_TRUSTED)
    # Not by path: without key identifiers OpenSSL takes a root's newWithOld, of equal names, for self-signed.
    for each in (new, cross):
        _current_ca(each)
    _may_certify(before, "the root held")
    _same_keys(bridge, after, _authority_key(cross), before)
    _same_keys(after, after, _authority_key(new), after)
    if back is not None:
        about = facts(back)
        if about.spki != before.spki or about.subject != before.subject or about.issuer != after.subject:
            raise ProtectionError(
                "oldWithNew is not for the old root, or not by the new", FailureInfo.SIGNER_NOT_TRUSTED
            )
        _signed_by(back, after.spki, library)
        _current_ca(back)
        _same_keys(about, before, _authority_key(back), after)
    return RootCaUpdate(
        new_with_new=certificate_of(new),
        new_with_old=certificate_of(cross),
        old_with_new=None if back is None else certificate_of(back),
    )


def _current_ca(certificate: bytes) -> None:
    """Raises ``ProtectionError`` unless it is a CA's, and valid now."""
    about = facts(certificate)
    try:
        constraints = certificate_of(certificate).extensions.get_extension_for_class(x509.BasicConstraints)
        is_ca = constraints.value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        is_ca = False
    if not is_ca:
        raise ProtectionError("a certificate of the root's update is no CA's", FailureInfo.SIGNER_NOT_TRUSTED)
    _may_certify(about, "a certificate of the root's update")


_KEY_CERT_SIGN = 0x0400


def _may_certify(about: Facts, what: str) -> None:
    """Raises ``ProtectionError`` unless it is in force, and its keyUsage does not forbid signing certificates."""
    if not about.not_before <= time.time() <= about.not_after:
        raise ProtectionError(f"{what} is not valid now", FailureInfo.SIGNER_NOT_TRUSTED)
    if about.key_usage is not None and not about.key_usage & _KEY_CERT_SIGN:
        raise ProtectionError(f"{what} may not sign certificates", FailureInfo.SIGNER_NOT_TRUSTED)


def _same_keys(about: Facts, twin: Facts, authority: bytes | None, issuer: Facts) -> None:
    """Raises ``ProtectionError`` when a key identifier that is given is not that of ``twin`` and ``issuer``."""
    own = about.key_id is None or twin.key_id is None or about.key_id == twin.key_id
    if not own or not (authority is None or issuer.key_id is None or authority == issuer.key_id):
        raise ProtectionError("key identifiers of the root's update do not agree", FailureInfo.SIGNER_NOT_TRUSTED)


def _authority_key(certificate: bytes) -> bytes | None:
    """keyIdentifier in authorityKeyIdentifier; None when there is none."""
    try:
        found = certificate_of(certificate).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None
    return found.value.key_identifier


def _signed_by(signed: bytes, spki: bytes, library: Library | None) -> None:
    """Raises ``ProtectionError`` unless the key signed this certificate, or CRL, which has the same three parts."""
    try:
        parts = decode(Certificate, signed)
    except ValueError:
        raise ProtectionError("a certificate that does not decode", FailureInfo.SIGNER_NOT_TRUSTED) from None
    try:
        verify_signature(
            spki,
            der(parts.signature_algorithm),
            der(parts.tbs_certificate),
            parts.signature.as_bytes(),
            keep=False,
            library=library,
        )
    except ProtectionError as error:
        raise ProtectionError(
            "a certificate of the root's update has a bad signature", FailureInfo.SIGNER_NOT_TRUSTED
        ) from error


@_or_pending
def certificate_request_template(
    waits: Waits, context: Context, *, profile: str | Sequence[str] | None = None, wait: bool = True
) -> RequestTemplate | None:
    """genm certReqTemplate. ``Session.certificate_request_template`` documents the arguments."""
    oid = oids.IT_CERT_REQ_TEMPLATE
    return cast("RequestTemplate | None", _asked(waits, context, [encode_info(oid, None)], _genm(oid), profile, wait))


def _template(content: Any) -> RequestTemplate | None:
    if content is None:
        return None
    template = content.cert_template
    subject = None
    if template.subject_der is not None:
        subject = _lenient_name(template.subject_der)
    return RequestTemplate(
        subject=subject,
        extensions={each.oid: (each.critical, each.extn_value) for each in template.extensions or ()},
        keys=tuple(key if isinstance(key, int) else der(key) for key in content.keys),
        value=content,
    )


def _lenient_name(name: bytes) -> x509.Name | None:
    """A Name; None where it holds what ``cryptography`` refuses."""
    try:
        return x509.Name.from_bytes(name)
    except ValueError:
        return None


@_or_pending
def crl_update(
    waits: Waits,
    context: Context,
    last: x509.CertificateRevocationList | bytes | None = None,
    *,
    certificate: CertificateSource | None = None,
    issuer: CertificateSource | None = None,
    wait: bool = True,
) -> x509.CertificateRevocationList | None:
    """genm crlStatusList. ``Session.crl_update`` documents the arguments."""
    if isinstance(last, bytes):
        last = (x509.load_pem_x509_crl if last.lstrip().startswith(b"-----") else x509.load_der_x509_crl)(last)
    since = None if last is None else last.last_update_utc
    if certificate is not None:
        about = load_certificate(certificate)
        url = _distribution_point(certificate_of(about))
        name = facts(about).issuer
        status = CRLStatus.of_issuer(name, since) if url is None else CRLStatus.of_url(url, since)
    elif last is not None:
        name = last.issuer.public_bytes()
        status = CRLStatus.of_issuer(name, since)
    else:
        raise ValueError("the last CRL, a certificate, or both are needed")
    given = None if issuer is None else load_certificate(issuer)
    pending = _genm(
        oids.IT_CRL_STATUS_LIST,
        issuer=name,
        since=None if since is None else since.timestamp(),
        held=given,
        fingerprint=None if given is None else _fingerprint(given),
    )
    items = [encode_info(oids.IT_CRL_STATUS_LIST, [status])]
    return cast("x509.CertificateRevocationList | None", _asked(waits, context, items, pending, None, wait))


def _crl(context: Context, answer: Answer, pending: Pending) -> x509.CertificateRevocationList | None:
    """The CRL in a genp, when it is the issuer's, newer than the one held, and signed."""
    found = _value_in(answer.content, oids.IT_CRLS)
    if not found:
        return None
    crl = crl_of(found[0])
    name = pending.issuer
    if name is None:
        raise ValueError("a saved Pending that does not say whose CRL is wanted")
    if crl.issuer.public_bytes() != name:
        raise BadMessage(FailureInfo.INCORRECT_DATA, "the CRL is of another issuer")
    if pending.since is not None and crl.last_update_utc.timestamp() <= pending.since:
        raise BadMessage(FailureInfo.INCORRECT_DATA, "the CRL is no newer than the one held")
    given = _held(context, pending)
    _verify_crl(crl, _crl_issuers(context, answer, name) if given is None else (given,), context.library)
    return crl


def _crl_issuers(context: Context, answer: Answer, name: bytes) -> list[bytes]:
    """Certificates of this name that we hold, or that the answer brings with a path to an anchor of ours."""
    trusts = [trust for trust in (context.trust, context.certificate_trust) if trust is not None]
    held = [*context.trusted, *context.untrusted, *context.extra_certificates, *answer.verified.chain]
    held += () if context.protector is None else context.protector.certificates
    held += [anchor for trust in trusts for anchor in trust.anchors]
    found = list(dict.fromkeys(held))
    for each in answer.message.extra_certs:
        for trust in trusts:
            with contextlib.suppress(ProtectionError, ValueError):
                trust.path(each, answer.message.extra_certs)
                found.append(each)
    return [each for each in found if facts(each).subject == name]


def _verify_crl(crl: x509.CertificateRevocationList, issuers: Iterable[bytes], library: Library | None) -> None:
    """Raises ``ProtectionError`` when there are issuers and none of them signed it."""
    known = [facts(each) for each in issuers]
    for each in known:
        with contextlib.suppress(ProtectionError):
            if each.key_usage is None or each.key_usage >> 8 & _CRL_SIGN:
                _signed_by(crl.public_bytes(Encoding.DER), each.spki, library)
                return
    if known:
        raise ProtectionError("the CRL is not signed by its issuer", FailureInfo.SIGNER_NOT_TRUSTED)


_CRL_SIGN = 0x02


def _distribution_point(certificate: x509.Certificate) -> str | None:
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    for point in points:
        for name in point.full_name or ():
            if isinstance(name, x509.UniformResourceIdentifier):
                return name.value
    return None
