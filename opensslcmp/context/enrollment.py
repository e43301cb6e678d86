"""``OSSL_CMP_CTX`` for one enrollment: it builds ir, cr, kur or p10cr with its template and proof of possession.

``build_request`` is one crossing: a fresh context, every setter, and OpenSSL at work up to the point where it would send.
Nothing waits inside C. ``run_enrollment`` goes on: OpenSSL gets an answer too, checks it and decrypts an encrypted
certificate. What it sees as the peer is the exchange above, which gives it a copy of an answer that it has verified itself,
protected under a secret that only this call knows. So no byte of a peer reaches libcrypto's CMP code before it is
authenticated, and the limits of that code in protection are not ours.

A certificate in clear does not need that second half: libcrypto 3.0 decodes it twice, each with a key decoder built anew,
for 320 us of CPU in a transaction whose C anchor takes 630 on the client's side, and then compares certReqId, status and
key, which the operation does on the decoded message in 20.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from opensslcmp._native import ffi, lib
from opensslcmp._native.memory import own
from opensslcmp._native.queue import drain
from opensslcmp.asn1 import NULL_DN, Limits, Message, admit, initializer, make_header
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.library import Library, native
from opensslcmp.context.protection import MacProtector, fresh_bytes, protect
from opensslcmp.credentials import MacParameters, SharedSecret
from opensslcmp.enums import BodyType
from opensslcmp.errors import OpenSSLError

__all__ = ["EnrollmentRequest", "build_request", "opensslcmp_on_exchange", "run_enrollment"]

# What OSSL_CRMF_pbm_new accepts at least (crmf_pbm.c); the secret has 256 random bits.
_INNER = MacParameters(iterations=100)
_OWN_LIMITS = Limits(max_message_bytes=16 << 20, max_header_bytes=1 << 20, max_name_bytes=1 << 20)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnrollmentRequest:
    """What the context is told.

    Attributes:
        body_type: IR, CR, KUR, P10CR or CCR.
        key: to be certified; None for P10CR.
        subject, issuer: DER of Names for the template, or None.
        old_certificate: DER, for KUR.
        request: DER of the CSR, for P10CR.
        extensions: DER of Extensions, or None.
        popo: ``signature``, ``raVerified``, ``keyEnc`` or ``none``; ``indirect`` and ``challenge`` OpenSSL does not build.
        validity_days: wished from now; 0 for none.
        validity: wished; instead of ``validity_days``.
        default_sans: take subjectAltName from ``old_certificate``.
        digest: hash of the proof's signature, or None for SHA-256.
        token: a regToken control (RFC 4211, 6.1), never shown by repr.
        central: the kind of key that the server is to make, ``""`` for one of its choice; None: ``key`` is to be certified.
        controls, reg_info: AttributeTypeAndValues in DER, never shown by repr.
        library: where algorithms come from, by default the process's own.
        signing_algorithm: AlgorithmIdentifier (DER) that the certificate is to be signed with, for CCR.
    """

    body_type: BodyType
    key: PrivateKey | None = None
    subject: bytes | None = None
    issuer: bytes | None = None
    old_certificate: bytes | None = None
    request: bytes | None = None
    extensions: bytes | None = None
    popo: str = "signature"
    validity_days: int = 0
    validity: tuple[datetime, datetime] | None = None
    default_sans: bool = True
    digest: str | None = None
    token: str | None = field(default=None, repr=False)
    central: str | None = None
    controls: bytes = field(default=b"", repr=False)
    reg_info: bytes = field(default=b"", repr=False)
    library: Library | None = None
    signing_algorithm: bytes | None = None


EnrollmentRequest.__init__ = initializer(EnrollmentRequest)  # type: ignore[method-assign]


_POPO = {
    "none": lib.OSSL_CRMF_POPO_NONE,
    "raVerified": lib.OSSL_CRMF_POPO_RAVERIFIED,
    "signature": lib.OSSL_CRMF_POPO_SIGNATURE,
    "keyEnc": lib.OSSL_CRMF_POPO_KEYENC,
}


class _Call:
    """What C's pointer ``handle`` stands for while one enrollment runs."""

    __slots__ = ("answer", "raised", "transfer")

    def __init__(self, transfer: Callable[[bytes], bytes]) -> None:
        self.transfer = transfer
        self.answer: Any = None
        self.raised: BaseException | None = None


@ffi.def_extern(error=0)  # type: ignore[untyped-decorator]
def opensslcmp_on_exchange(session: Any, request: Any, length: int) -> int:
    """Hand the request to Python; nothing raises into C (see ``_native/callbacks.py``)."""
    call: _Call = ffi.from_handle(session.handle)
    try:
        answer = ffi.from_buffer(call.transfer(bytes(ffi.buffer(request, length))))
    except BaseException as error:
        call.raised = error
        return 0
    call.answer = answer  # C reads it as soon as we return
    session.answer = answer
    session.answer_length = len(answer)
    return 1


def run_enrollment(request: EnrollmentRequest, exchange: Callable[[BodyType, bytes], tuple[BodyType, bytes]]) -> bytes:
    """The new certificate in DER, checked against the request by OpenSSL, not yet confirmed.

    Args:
        request: what is asked for.
        exchange: called once, with type and content of the request's body; returns those of the final answer, of which it
            has verified the protection.

    Raises:
        OpenSSLError: OpenSSL could not build the request, or refuses the answer.
        Exception: what ``exchange`` raised.

    Source: OSSL_CMP_exec_certreq(3), OSSL_CMP_CTX_new(3).
    """
    secret = os.urandom(32) if request.library is None else request.library.random(32)
    protector = MacProtector(SharedSecret(b"opensslcmp", secret, parameters=_INNER), library=request.library)

    def transfer(inner: bytes) -> bytes:
        message: Message = admit(inner, limits=_OWN_LIMITS)
        body_type, body = exchange(message.body_type, message.body_der)
        header = make_header(
            sender=NULL_DN,
            recipient=NULL_DN,
            transaction_id=message.transaction_id,
            sender_nonce=fresh_bytes(16),
            recip_nonce=message.sender_nonce,
        )
        return protect(header, body_type, body, protector)

    call = _Call(transfer)
    handle = ffi.new_handle(call)
    session, held = _session(request)
    buffer = ffi.from_buffer(secret)
    session.handle, session.secret, session.secret_length = handle, buffer, len(secret)
    done = lib.opensslcmp_session_enroll(session)
    del held
    certificate = _take(session.certificate, session.certificate_length)
    # The queue is empty on success too; what it holds counts only when nothing of ours raised.
    queue = drain()
    raised, call.raised = call.raised, None
    if raised is not None:
        try:
            raise raised
        finally:
            del raised
    if not done:
        raise OpenSSLError(queue, "the enrollment failed")
    return certificate


def build_request(request: EnrollmentRequest) -> tuple[BodyType, bytes]:
    """Type and content (DER) of the request's body.

    Raises:
        OpenSSLError: OpenSSL cannot build it.

    Source: OSSL_CMP_exec_certreq(3), OSSL_CMP_CTX_setup_CRM(3), OSSL_CRMF_MSG_create_popo(3).
    """
    session, held = _session(request)
    session.secret, session.secret_length = _UNUSED, 1
    session.build_only = 1
    done = lib.opensslcmp_session_enroll(session)
    del held
    if not done:
        raise OpenSSLError(drain(), "the request cannot be built")
    message = admit(_take(session.built, session.built_length), limits=_OWN_LIMITS)
    return message.body_type, message.body_der


_UNUSED = ffi.new("unsigned char[]", b"-")


def _take(pointer: Any, length: int) -> bytes:
    """Bytes that C allocated for us."""
    if pointer == ffi.NULL:
        return b""
    try:
        return bytes(ffi.buffer(pointer, length))
    finally:
        lib.opensslcmp_free(pointer)


def _session(request: EnrollmentRequest) -> tuple[Any, list[Any]]:
    """The struct, and what must outlive its use."""
    session = ffi.new("opensslcmp_session *")
    key, old = request.key, request.old_certificate
    held: list[Any] = [key]
    session.body_type = int(request.body_type)
    session.library = native(request.library)
    held.append(request.library)
    session.popo = _POPO[request.popo]
    session.days = request.validity_days
    session.without_default_sans = not request.default_sans
    session.key_is_private = request.popo in {"signature", "keyEnc"}
    if key is not None:
        session.key = key._ptr
    if old is not None:
        certificate = _certificate(old)
        held.append(certificate)
        session.old_certificate = certificate
    if request.validity is not None:
        session.has_validity = 1
        session.not_before, session.not_after = (int(moment.timestamp()) for moment in request.validity)
    for name, value in (
        ("subject", request.subject),
        ("issuer", request.issuer),
        ("request", request.request),
        ("extensions", request.extensions),
    ):
        if value is not None:
            buffer = ffi.from_buffer(value)
            held.append(buffer)
            setattr(session, name, buffer)
            setattr(session, f"{name}_length", len(value))
    for name, text in (("digest", request.digest), ("token", request.token)):
        if text is not None:
            terminated = ffi.new("char[]", text.encode())
            held.append(terminated)
            setattr(session, name, terminated)
    return session, held


@lru_cache(maxsize=64)
def _certificate(der: bytes) -> Any:
    """A certificate as libcrypto has it, its caches primed (CVE-2026-84783) and itself kept."""
    return own(lib.opensslcmp_certificate(ffi.NULL, der, len(der)), lib.X509_free)
