"""Certificates: reading them from wherever they are kept, what rules need to know of them, and paths to an anchor.

``Trust`` is immutable: anchors, CRLs and intermediates are decoded once. Each path is built in an X509_STORE of its own,
so no message ever changes what another one is checked against. A verified path is remembered until the first of its
certificates or CRLs ends or ``cache_seconds`` are over, and counts again for a message that brings the intermediates
which this ``Trust`` does not have itself; a failure is never remembered. To take a revocation into account
make a new ``Trust`` with the new CRL, or call ``forget``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp._native import ffi, lib
from opensslcmp._native.memory import own
from opensslcmp._native.queue import drain
from opensslcmp.asn1 import BitString, Certificate, bits, decode, der, elements, holds_at_most, outline, read_header
from opensslcmp.context.keys import KeyBounds, load_store, split, verify_signature
from opensslcmp.context.library import Library, native
from opensslcmp.credentials import CertificateSource, Password
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import OpenSSLError, ProtectionError

__all__ = ["Facts", "Trust", "facts", "holds_name", "load_certificate", "load_certificates", "same_name"]

_DIGITAL_SIGNATURE = 0x80
_KEY_CERT_SIGN = 0x0400  # of both octets of keyUsage
_INTERMEDIATES = 64
# What a certificate may hold that a peer sends; real ones have a fifth of that.
_MAX_EXTENSIONS = 64
_MAX_NAME_BYTES = 4096
# Longer than this, a certificate is decoded by libcrypto only when a known CA signed it.
_LARGE = 4096
_FAILURES = 4
_ANY_RSA = KeyBounds(1, 16384)  # whose keys these are, the anchors have said


def load_certificates(
    source: CertificateSource, password: Password = None, library: Library | None = None
) -> list[bytes]:
    """DER of every certificate in ``source``, in its order.

    Args:
        source: ``cryptography.x509.Certificate``, PEM (any number) or DER bytes, PKCS#12, a path to such a file, or a
            provider URI (``pkcs11:``, ``file:``).
        password: opens PKCS#12 or a token, as for ``PrivateKey.load``.
        library: reads what is encrypted or in a token, by default the process's own.

    Raises:
        ValueError: there is no certificate in it.
        OpenSSLError: a wrong or missing password.
        OSError: the file cannot be read.

    Source: OSSL_STORE_open(3).
    """
    if isinstance(source, x509.Certificate):
        return [source.public_bytes(Encoding.DER)]
    if isinstance(source, str) and source.startswith(("pkcs11:", "file:", "org.openssl.")):
        found = load_store(source, password, library)[1]
        if not found:
            raise ValueError("there is no certificate in it")
        return found
    data = _bytes(source)
    try:
        if b"-----BEGIN" in data:
            return [each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(data)]
        x509.load_der_x509_certificate(data)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from None
    except ValueError:
        try:
            found = load_store(data, password, library)[1]
        except OpenSSLError as error:
            encrypted, password = password is not None, None  # a traceback may show the locals of this frame
            if encrypted:
                raise
            raise ValueError("there is no certificate in it, or it is encrypted and no password was given") from error
        password = None
        if not found:
            raise ValueError("there is no certificate in it") from None
        return found
    return [data]


def load_certificate(source: CertificateSource, password: Password = None, library: Library | None = None) -> bytes:
    """DER of the first certificate in ``source``; as ``load_certificates``."""
    return load_certificates(source, password, library)[0]


def _bytes(source: Any) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if isinstance(source, str) and "-----BEGIN" in source:
        return source.encode()
    if isinstance(source, (str, os.PathLike)):
        return Path(source).read_bytes()
    raise TypeError(f"not a source of a certificate: {type(source).__name__}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What rules ask of a certificate.

    Attributes:
        der: the certificate.
        subject, issuer: DER of the Names as they stand.
        serial_number: of the certificate.
        spki: DER of the SubjectPublicKeyInfo.
        key_id: subjectKeyIdentifier, or None.
        authority_key_id: keyIdentifier of authorityKeyIdentifier, or None.
        may_issue: neither basicConstraints nor keyUsage says that it is no CA's.
        digital_signature: keyUsage allows digitalSignature, or there is no keyUsage.
        key_usage: the two octets of keyUsage as one number, bit 0 highest; None when absent.
        extended_key_usage: dotted OIDs; empty when absent.
        not_before, not_after: the validity, in seconds since 1970.
        fingerprint: SHA-256 of the certificate.
    """

    der: bytes = field(repr=False)
    subject: bytes
    issuer: bytes
    serial_number: int
    spki: bytes = field(repr=False)
    key_id: bytes | None
    authority_key_id: bytes | None
    may_issue: bool
    digital_signature: bool
    key_usage: int | None
    extended_key_usage: tuple[str, ...]
    not_before: float
    not_after: float
    fingerprint: bytes


@lru_cache(maxsize=512)
def facts(certificate: bytes) -> Facts:
    """What rules ask of a certificate (DER); remembered.

    Raises:
        ProtectionError: badMessageCheck, it is no certificate.

    Source: RFC 5280, 4.1 and 4.2.1.
    """
    try:
        outer = decode(Certificate, certificate)
        _check_extensions(der(outer.tbs_certificate))
        tbs = outer.tbs
        key_id = tbs.extension("2.5.29.14")
        usage_der = tbs.extension("2.5.29.15")
        extended = tbs.extension("2.5.29.37")
        usage = None
        if usage_der is not None:
            octets = decode(BitString, usage_der).as_bytes()
            usage = int.from_bytes(octets[:2].ljust(2, b"\0"), "big")
        if extended is not None and not holds_at_most(extended, _MAX_EXTENSIONS):
            raise ValueError("too many key purposes")
        return Facts(
            der=certificate,
            subject=der(tbs.subject),
            issuer=der(tbs.issuer),
            serial_number=tbs.serial_number,
            spki=der(tbs.subject_public_key_info),
            key_id=None if key_id is None else decode(bytes, key_id),
            authority_key_id=_authority_key_id(tbs.extension("2.5.29.35")),
            may_issue=_may_issue(tbs.extension("2.5.29.19"), usage),
            digital_signature=usage is None or bool(usage >> 8 & _DIGITAL_SIGNATURE),
            key_usage=usage,
            extended_key_usage=()
            if extended is None
            else tuple(decode(x509.ObjectIdentifier, extended[a:b]).dotted_string for a, b in elements(extended)),
            not_before=tbs.validity.not_before.as_datetime().timestamp(),
            not_after=tbs.validity.not_after.as_datetime().timestamp(),
            fingerprint=hashlib.sha256(certificate).digest(),
        )
    except ValueError:
        raise ProtectionError("a certificate that does not decode", FailureInfo.BAD_MESSAGE_CHECK) from None


def _check_extensions(tbs: bytes) -> None:
    """Count extensions before they become objects."""
    for start, end in elements(tbs):
        if tbs[start] == 0xA3:
            _, inside, stop = read_header(tbs, start, end)
            if not holds_at_most(tbs[inside:stop], _MAX_EXTENSIONS):
                raise ValueError("too many extensions")


def _authority_key_id(value: bytes | None) -> bytes | None:
    for start, end in elements(value or b"0\0"):
        assert value is not None
        if value[start] == 0x80:
            _, inside, stop = read_header(value, start, end)
            return value[inside:stop]
    return None


def _may_issue(constraints: bytes | None, usage: int | None) -> bool:
    """As X509_check_ca(3) has it for versions 2 and 3."""
    if usage is not None and not usage & _KEY_CERT_SIGN:
        return False
    return usage is not None if constraints is None else b"\x01\x01\xff" in constraints[:5]


_ENCODINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}


def same_name(one: bytes, other: bytes) -> bool:
    """Whether two Names (DER) are equal: the same bytes, or the same text in other string types, case and spaces.

    Source: RFC 5280, 7.1; X509_NAME_cmp(3).
    """
    if one == other:
        return True
    try:
        return _canonical(one) == _canonical(other)
    except ValueError:
        return False


def holds_name(name: bytes, part: bytes) -> bool:
    """Whether every RDN of ``part`` is in ``name`` (DER of Names), compared as ``same_name`` does, in any order."""
    try:
        return set(_canonical(part)) <= set(_canonical(name))
    except ValueError:
        return False


@lru_cache(maxsize=512)
def _canonical(name: bytes) -> tuple[tuple[tuple[bytes, object], ...], ...]:
    if len(name) > _MAX_NAME_BYTES:
        raise ValueError(f"a name of {len(name)} bytes")
    result = []
    for start, end in elements(name):
        rdn = name[start:end]
        parts: list[tuple[bytes, object]] = []
        for a, b in elements(rdn, 0x31):
            pair = rdn[a:b]
            (_, middle), (value, last) = elements(pair)
            tag, content, _ = read_header(pair, value, last)
            text: object = pair[value:last]
            if (encoding := _ENCODINGS.get(tag)) is not None:
                text = " ".join(pair[content:last].decode(encoding).casefold().split())
            parts.append((pair[:middle][2:], text))
        result.append(tuple(sorted(parts, key=repr)))
    return tuple(result)


def _relevant(issuer: bytes, untrusted: Sequence[bytes], limit: int) -> list[bytes]:
    """Those of ``untrusted`` that can be on a path from a certificate of this issuer: by name, one issued the next."""
    by_subject: dict[object, list[tuple[bytes, bytes]]] = {}
    for certificate in untrusted:
        try:
            _, above, _, subject, _ = outline(certificate)
            by_subject.setdefault(_canonical(subject), []).append((certificate, above))
        except ValueError:
            continue
    found: list[bytes] = []
    wanted = [issuer]
    while wanted and len(found) < limit:
        try:
            issuers = by_subject.pop(_canonical(wanted.pop()), [])
        except ValueError:
            continue
        found += [certificate for certificate, _ in issuers]
        wanted += [above for _, above in issuers]
    return found[:limit]


def _vetted(strangers: Iterable[bytes], known: Iterable[bytes]) -> list[bytes]:
    """Those of ``strangers`` that a known certificate signed, or one that was vetted.

    A peer may send many, and libcrypto 3.0 takes 200 µs to decode a certificate, up to milliseconds for a long one. So it
    decodes none that was not signed, step by step, below an anchor; signatures that are not good are counted.
    """
    issuers: dict[object, list[Facts]] = {}
    for each in known:
        with contextlib.suppress(ProtectionError, ValueError):
            own = facts(each)
            issuers.setdefault(_canonical(own.subject), []).append(own)
    found: list[bytes] = []
    left = list(strangers)
    failures = 0
    grown = True
    while grown:
        grown = False
        for certificate in list(left):
            candidates = issuers.get(_canonical_or_none(outline(certificate)[1]))
            if not candidates:
                continue
            try:
                about = facts(certificate)
            except ProtectionError:
                left.remove(certificate)
                continue
            for issuer in candidates:
                if about.authority_key_id is not None and issuer.key_id not in {None, about.authority_key_id}:
                    continue  # of the same name, with another key
                if failures == _FAILURES:
                    return found
                if _signed_by(certificate, issuer.spki):
                    found.append(certificate)
                    left.remove(certificate)
                    if about.may_issue:
                        issuers.setdefault(_canonical(about.subject), []).append(about)
                        grown = True
                    break
                failures += 1
    return found


def _signed_by(certificate: bytes, spki: bytes) -> bool:
    """Whether this key signed it; what else the certificate says is libcrypto's to judge."""
    try:
        outer = decode(Certificate, certificate)
        algorithm, tbs, signature = der(outer.signature_algorithm), der(outer.tbs_certificate), bits(outer.signature)
        verify_signature(spki, algorithm, tbs, signature, bounds=_ANY_RSA, allow_weak=True)
    except (ProtectionError, ValueError):
        return False
    return True


def _canonical_or_none(name: bytes) -> object:
    try:
        return _canonical(name)
    except ValueError:
        return None


def _subject(certificate: bytes) -> object:
    try:
        return _canonical(outline(certificate)[3])
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _Path:
    chain: tuple[bytes, ...]
    needs: frozenset[bytes]
    since: float
    until: float


class Trust:
    """Anchors, and how a path to one of them is checked. Immutable; may be used by several threads at once.

    Args:
        anchors: each a certificate source, which may hold several.
        crls: ``cryptography`` CRLs, PEM or DER bytes, or paths. When there are any, the leaf's issuer must have given
            one; other certificates of the path are checked where there is a CRL of their issuer.
        untrusted: intermediates that may fill gaps of a path.
        revocation: ``"path"`` asks for a CRL for every certificate of the path.
        partial_chain: an anchor need not be self-signed.
        strict: RFC 5280's rules to the letter (X509_V_FLAG_X509_STRICT).
        depth: how many certificates may stand between leaf and anchor.
        security_level: 2 asks for 112 bits: RSA 2048, no SHA-1 (SSL_CTX_set_security_level(3)).
        cache_seconds: how long a verified path is remembered at most.
        cache_size: how many are.
        library: where the algorithms of the path come from, by default the process's own.

    Raises:
        ValueError: no anchor, or something that is no certificate or CRL.

    Source: X509_verify_cert(3), X509_VERIFY_PARAM_set_flags(3).
    """

    __slots__ = (
        "_anchors",
        "_cache",
        "_cache_seconds",
        "_cache_size",
        "_crls",
        "_depth",
        "_flags",
        "_level",
        "_lock",
        "_met",
        "_own",
        "_owned",
        "_since",
        "_some_crls",
        "_subjects",
        "_until",
        "anchors",
        "library",
    )

    def __init__(
        self,
        anchors: Iterable[CertificateSource] | CertificateSource,
        *,
        crls: Iterable[Any] = (),
        untrusted: Iterable[CertificateSource] = (),
        revocation: Literal["given", "path"] = "given",
        partial_chain: bool = True,
        strict: bool = False,
        depth: int = 10,
        security_level: int = 2,
        cache_seconds: float = 300.0,
        cache_size: int = 1024,
        library: Library | None = None,
    ) -> None:
        if isinstance(anchors, (str, bytes, os.PathLike, x509.Certificate)):
            anchors = [anchors]
        self.anchors: tuple[bytes, ...] = tuple(each for source in anchors for each in load_certificates(source))
        if not self.anchors:
            raise ValueError("at least one trust anchor is needed")
        extra = [each for source in untrusted for each in load_certificates(source)]
        lists = [each for source in crls for each in _load_crls(source)]
        self._own = frozenset((*self.anchors, *extra))
        self.library = library
        native_anchors = [_native_certificate(each, library) for each in self.anchors]
        native_extra = [_native_certificate(each, library) for each in extra]
        self._subjects = frozenset([name for each in self._own if (name := _subject(each)) is not None])
        native_crls = [_native_crl(each.public_bytes(Encoding.DER), library) for each in lists]
        self._owned = (native_anchors, native_extra, native_crls)
        self._anchors = ffi.new("X509 *[]", native_anchors)
        self._crls = ffi.new("X509_CRL *[]", native_crls)
        self._some_crls = bool(lists) and revocation == "given"
        self._flags: int = lib.X509_V_FLAG_PARTIAL_CHAIN if partial_chain else 0
        if lists or revocation == "path":
            self._flags |= lib.X509_V_FLAG_CRL_CHECK | lib.X509_V_FLAG_CRL_CHECK_ALL
        if strict:
            self._flags |= lib.X509_V_FLAG_X509_STRICT
        self._since = max((each.last_update_utc.timestamp() for each in lists), default=0.0)
        self._until = min(
            (each.next_update_utc.timestamp() for each in lists if each.next_update_utc is not None),
            default=float("inf"),
        )
        self._depth = depth
        self._level = security_level
        self._cache_seconds = cache_seconds
        self._cache_size = cache_size
        self._cache: OrderedDict[bytes, _Path] = OrderedDict()
        # Intermediates of verified paths, decoded: OpenSSL 3.0 takes 150 µs for each.
        self._met: dict[bytes, Any] = {}
        self._lock = threading.Lock()

    def path(
        self, certificate: bytes, untrusted: Sequence[bytes] = (), at: datetime | float | None = None
    ) -> tuple[bytes, ...]:
        """The verified path from ``certificate`` to an anchor, both included, in DER.

        Args:
            certificate: DER.
            untrusted: intermediates, DER, as a peer sent them; never taken as anchors.
            at: the time that counts, by default now.

        Raises:
            ProtectionError: certRevoked, badAlg for a key that is too small, or signerNotTrusted for everything else.

        Source: X509_verify_cert(3).
        """
        moment = time.time() if at is None else _seconds(at)
        with self._lock:
            known = self._cache.get(certificate)
            if known is not None and known.since <= moment <= known.until and known.needs.issubset(untrusted):
                self._cache.move_to_end(certificate)
                return known.chain
        chain = self._build(certificate, untrusted, moment)
        all_facts = [facts(each) for each in chain]
        path = _Path(
            chain,
            frozenset(chain[1:]) - self._own,
            max(self._since, *(each.not_before for each in all_facts)),
            min(self._until, moment + self._cache_seconds, *(each.not_after for each in all_facts)),
        )
        new = [each for each in chain[1:] if each not in self._own and each not in self._met]
        decoded = {each: _native_certificate(each, self.library) for each in new if len(self._met) < _INTERMEDIATES}
        with self._lock:
            self._met |= decoded
            self._cache[certificate] = path
            self._cache.move_to_end(certificate)
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        return chain

    def _build(self, certificate: bytes, untrusted: Sequence[bytes], moment: float) -> tuple[bytes, ...]:
        ders = [certificate]
        anchors, extra, crls = self._owned
        extra = list(extra)
        strangers: list[bytes] = []
        met: list[bytes] = []
        try:
            issuer = outline(certificate)[1]
        except ValueError:
            text = "the signer's certificate does not decode"
            raise ProtectionError(text, FailureInfo.SIGNER_NOT_TRUSTED) from None
        with self._lock:
            for each in _relevant(issuer, untrusted, 2 * self._depth):
                if (known := self._met.get(each)) is not None:
                    extra.append(known)
                    met.append(each)
                elif each not in self._own:
                    strangers.append(each)
        if not (strangers or met or certificate in self._own or _canonical_or_none(issuer) in self._subjects):
            raise ProtectionError(
                "the signer's certificate is not trusted: no certificate of its issuer is known",
                FailureInfo.SIGNER_NOT_TRUSTED,
            )
        large = len(certificate) > _LARGE
        if strangers or large:
            vetted = _vetted([*strangers, certificate] if large else strangers, [*self._own, *met])
            if large and certificate not in vetted:
                raise ProtectionError(
                    "the signer's certificate is not trusted: it is long, and no known CA signed it",
                    FailureInfo.SIGNER_NOT_TRUSTED,
                )
            ders += [each for each in vetted if each != certificate]
        error = ffi.new("int[2]")
        out = ffi.new("unsigned char **")
        length = ffi.new("size_t *")
        result = lib.opensslcmp_path(
            native(self.library),
            b"".join(ders),
            ffi.new("size_t[]", [len(each) for each in ders]),
            len(ders),
            self._anchors,
            len(anchors),
            ffi.new("X509 *[]", extra),
            len(extra),
            self._crls,
            len(crls),
            self._some_crls,
            int(moment),
            self._flags,
            self._depth,
            self._level,
            error,
            error + 1,
            out,
            length,
        )
        try:
            if result == 1:
                return tuple(split(bytes(ffi.buffer(out[0], length[0]))))
        finally:
            if out[0]:
                lib.opensslcmp_free(out[0])
        if result < 0:
            raise ProtectionError("the signer's certificate cannot be checked", FailureInfo.SIGNER_NOT_TRUSTED, drain())
        if error[0] == lib.X509_V_ERR_CERT_REVOKED:
            raise ProtectionError("a certificate of the signer's path is revoked", FailureInfo.CERT_REVOKED)
        if error[0] == lib.X509_V_ERR_EE_KEY_TOO_SMALL:
            raise ProtectionError("the signer's key is too small", FailureInfo.BAD_ALG)
        reason = ffi.string(lib.X509_verify_cert_error_string(error[0])).decode()
        raise ProtectionError(
            f"the signer's certificate is not trusted: {reason} (at depth {error[1]})", FailureInfo.SIGNER_NOT_TRUSTED
        )

    def forget(self, certificate: bytes | None = None) -> None:
        """Drop the remembered paths that hold ``certificate`` (DER), or all of them."""
        with self._lock:
            for key, path in list(self._cache.items()):
                if certificate is None or certificate in path.chain:
                    del self._cache[key]

    def __repr__(self) -> str:
        return f"<Trust {len(self.anchors)} anchors, {len(self._owned[2])} CRLs>"


def _seconds(at: datetime | float) -> float:
    if isinstance(at, datetime):
        return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp()
    return float(at)


def _load_crls(source: Any) -> list[x509.CertificateRevocationList]:
    if isinstance(source, x509.CertificateRevocationList):
        return [source]
    data = _bytes(source)
    end = b"-----END X509 CRL-----"
    try:
        if b"-----BEGIN" not in data:
            return [x509.load_der_x509_crl(data)]
        found = [x509.load_pem_x509_crl(part + end) for part in data.split(end)[:-1]]
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from None
    if not found:
        raise ValueError("there is no CRL in it")
    return found


def _native_certificate(certificate: bytes, library: Library | None = None) -> Any:
    pointer = lib.opensslcmp_certificate(native(library), certificate, len(certificate))
    if not pointer:
        raise ValueError(f"OpenSSL does not read this certificate: {'; '.join(drain())}")
    return own(pointer, lib.X509_free)


def _native_crl(crl: bytes, library: Library | None = None) -> Any:
    pointer = lib.opensslcmp_crl(native(library), crl, len(crl))
    if not pointer:
        raise ValueError(f"OpenSSL does not read this CRL: {'; '.join(drain())}")
    return own(pointer, lib.X509_CRL_free)
