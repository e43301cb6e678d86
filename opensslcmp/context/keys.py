"""Private keys, and verification with public ones.

A private key is loaded into libcrypto once, from wherever it is kept, and stays there: only a ``PrivateKey`` holds its
``EVP_PKEY``, and one may be used by several threads at once. A public key is its SubjectPublicKeyInfo in bytes;
``verify_signature`` decodes and verifies in one crossing, and keeps the keys it met lately.

Signature algorithms are told apart by the bytes of their AlgorithmIdentifier: those that a peer may use stand in one
table, in their only DER forms; RSASSA-PSS alone has parameters to read (RFC 4055, 3.1). What is not in the table is
badAlg before libcrypto hears of it. Curves are named ones with 112 bits of security or more: NIST's over prime fields from
P-224 on, and the brainpool curves from 224 bits on. P-192 and the curves over binary fields are refused.

Source: RFC 9481, 3; RFC 8692 and RFC 8702 (SHAKE); RFC 9688 (SHA-3); RFC 9881 (ML-DSA); RFC 9909 (SLH-DSA).
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from cryptography.hazmat.asn1 import Default, Explicit
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ObjectIdentifier

from opensslcmp._native import ffi, lib
from opensslcmp._native.levels import has
from opensslcmp._native.memory import own
from opensslcmp._native.queue import check, drain
from opensslcmp.asn1 import TLV, AlgorithmIdentifier, algorithm, decode, der, encode, oids, structure
from opensslcmp.context.library import Library, native
from opensslcmp.credentials import KeySource, Password
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import OpenSSLError, ProtectionError, Unsupported

__all__ = [
    "DEFAULT_KEY_BOUNDS",
    "KEY_KINDS",
    "KeyBounds",
    "PrivateKey",
    "SignatureAlgorithm",
    "algorithm_of",
    "load_store",
    "password_of",
    "signature_algorithm",
    "split",
    "verify_signature",
]

_EC: int = lib.OPENSSLCMP_KIND_EC
_RSA: int = lib.OPENSSLCMP_KIND_RSA
_PSS: int = lib.OPENSSLCMP_KIND_PSS
_NULL = b"\x05\x00"
_SLH_DSA = tuple(
    f"SLH-DSA-{hash_}-{bits}{how}" for hash_ in ("SHA2", "SHAKE") for bits in (128, 192, 256) for how in "sf"
)
"""In the order of their OIDs, id-slh-dsa-sha2-128s first (RFC 9909, 3)."""

_DIGEST_BYTES = {
    "MD5": 16,
    "SHA1": 20,
    "SHA224": 28,
    "SHA256": 32,
    "SHA384": 48,
    "SHA512": 64,
    "SHA3-224": 28,
    "SHA3-256": 32,
    "SHA3-384": 48,
    "SHA3-512": 64,
}
_DIGESTS = {
    "1.3.14.3.2.26": "SHA1",
    "1.2.840.113549.2.5": "MD5",
    "2.16.840.1.101.3.4.2.4": "SHA224",
    "2.16.840.1.101.3.4.2.1": "SHA256",
    "2.16.840.1.101.3.4.2.2": "SHA384",
    "2.16.840.1.101.3.4.2.3": "SHA512",
    "2.16.840.1.101.3.4.2.7": "SHA3-224",
    "2.16.840.1.101.3.4.2.8": "SHA3-256",
    "2.16.840.1.101.3.4.2.9": "SHA3-384",
    "2.16.840.1.101.3.4.2.10": "SHA3-512",
}
_DIGEST_OIDS = {name: oid for oid, name in _DIGESTS.items()}
_MGF1 = "1.2.840.113549.1.1.8"
_RSASSA_PSS = "1.2.840.113549.1.1.10"
_PSS_SHAKE128 = "1.3.6.1.5.5.7.6.30"
_PSS_SHAKE256 = "1.3.6.1.5.5.7.6.31"
_SHAKE_BYTES = {"SHAKE128": 32, "SHAKE256": 64}
_WEAK = frozenset(("MD5", "SHA1"))


@dataclass(frozen=True, slots=True)
class KeyBounds:
    """Which RSA keys may verify a peer's signature; checked before any arithmetic.

    Attributes:
        min_rsa_bits, max_rsa_bits: length of the modulus.
    """

    min_rsa_bits: int = 2048
    max_rsa_bits: int = 8192


DEFAULT_KEY_BOUNDS = KeyBounds()


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """A signature algorithm by what it needs.

    Attributes:
        name: as the RFCs write it, ``ecdsa-with-SHA256``.
        oid: dotted.
        kind: the kind of key that it takes (``OPENSSLCMP_KIND_*``).
        digest: as OpenSSL names it, None where the algorithm has none to choose.
        salt: salt length of RSASSA-PSS in bytes, -1 for any other algorithm.
    """

    name: str
    oid: str
    kind: int
    digest: str | None = None
    salt: int = -1

    @property
    def weak(self) -> bool:
        """MD5 and SHA-1."""
        return self.digest in _WEAK


@structure
class _PSSParameters:
    hash_algorithm: Annotated[AlgorithmIdentifier | None, Explicit(0)] = None
    mask_gen_algorithm: Annotated[AlgorithmIdentifier | None, Explicit(1)] = None
    salt_length: Annotated[int, Explicit(2), Default(20)] = 20
    trailer_field: Annotated[int, Explicit(3), Default(1)] = 1


def _rows() -> Iterator[tuple[str, str, int, str | None]]:
    for arc, digest in enumerate(("SHA224", "SHA256", "SHA384", "SHA512"), 1):
        yield f"ecdsa-with-{digest}", f"1.2.840.10045.4.3.{arc}", _EC, digest
    for arc, digest in enumerate(("SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512")):
        yield f"id-ecdsa-with-{digest.lower()}", f"2.16.840.1.101.3.4.3.{9 + arc}", _EC, digest
        yield f"id-rsassa-pkcs1-v1_5-with-{digest.lower()}", f"2.16.840.1.101.3.4.3.{13 + arc}", _RSA, digest
    yield "ecdsa-with-SHA1", "1.2.840.10045.4.1", _EC, "SHA1"
    yield "id-ecdsa-with-shake128", "1.3.6.1.5.5.7.6.32", _EC, "SHAKE128"
    yield "id-ecdsa-with-shake256", "1.3.6.1.5.5.7.6.33", _EC, "SHAKE256"
    for arc, digest in (14, "SHA224"), (11, "SHA256"), (12, "SHA384"), (13, "SHA512"), (5, "SHA1"), (4, "MD5"):
        yield f"{digest.lower()}WithRSAEncryption", f"1.2.840.113549.1.1.{arc}", _RSA, digest
    yield "id-Ed25519", "1.3.101.112", lib.OPENSSLCMP_KIND_ED25519, None
    yield "id-Ed448", "1.3.101.113", lib.OPENSSLCMP_KIND_ED448, None
    yield "id-ml-dsa-44", "2.16.840.1.101.3.4.3.17", lib.OPENSSLCMP_KIND_ML_DSA_44, None
    yield "id-ml-dsa-65", "2.16.840.1.101.3.4.3.18", lib.OPENSSLCMP_KIND_ML_DSA_65, None
    yield "id-ml-dsa-87", "2.16.840.1.101.3.4.3.19", lib.OPENSSLCMP_KIND_ML_DSA_87, None
    for number, name in enumerate(_SLH_DSA):
        yield f"id-{name.lower()}", f"2.16.840.1.101.3.4.3.{20 + number}", lib.OPENSSLCMP_KIND_SLH_DSA + number, None


def _table() -> dict[bytes, SignatureAlgorithm]:
    table = {}
    for name, oid, kind, digest in _rows():
        row = SignatureAlgorithm(name, oid, kind, digest)
        if kind == _RSA:
            # RFC 4055, 5: NULL; a missing parameter is accepted.
            table[der(algorithm(oid, _NULL))] = row
        table[der(algorithm(oid))] = row
    for oid, (digest, size) in zip((_PSS_SHAKE128, _PSS_SHAKE256), _SHAKE_BYTES.items(), strict=True):
        table[der(algorithm(oid))] = SignatureAlgorithm(f"id-RSASSA-PSS-{digest}", oid, _RSA, digest, size)
    return table


_ALGORITHMS = _table()
_BY_KEY: dict[tuple[int, str | None], bytes] = {}
for _der, _row in _ALGORITHMS.items():
    _BY_KEY.setdefault((_row.kind, _row.digest), _der)


@lru_cache(maxsize=256)
def signature_algorithm(identifier: bytes) -> SignatureAlgorithm:
    """The signature algorithm that an AlgorithmIdentifier (DER) names.

    Raises:
        ProtectionError: badAlg, it is none that we know, or its parameters are not as the RFCs ask.

    Source: RFC 9481, 3; RFC 4055, 3.1.
    """
    if (known := _ALGORITHMS.get(identifier)) is not None:
        return known
    try:
        parsed = decode(AlgorithmIdentifier, identifier)
        if parsed.oid == _RSASSA_PSS:
            return _pss(decode(_PSSParameters, parsed.parameters_der or b""))
    except ValueError:
        raise ProtectionError("a signature algorithm whose parameters do not decode", FailureInfo.BAD_ALG) from None
    raise ProtectionError(f"signature algorithm {parsed.oid} is not supported", FailureInfo.BAD_ALG)


def _pss(parameters: _PSSParameters) -> SignatureAlgorithm:
    digest = _digest(parameters.hash_algorithm)
    mask = parameters.mask_gen_algorithm
    if mask is None:
        mask_digest: str | None = "SHA1"
    elif mask.oid == _MGF1 and isinstance(mask.parameters, TLV):
        mask_digest = _digest(decode(AlgorithmIdentifier, mask.parameters_der or b""))
    else:
        mask_digest = None
    if digest is None or mask_digest != digest:
        raise ProtectionError("RSASSA-PSS with a mask over another hash", FailureInfo.BAD_ALG)
    if not 0 <= parameters.salt_length <= _DIGEST_BYTES[digest] or parameters.trailer_field != 1:
        raise ProtectionError("RSASSA-PSS with an unusual salt or trailer", FailureInfo.BAD_ALG)
    return SignatureAlgorithm("id-RSASSA-PSS", _RSASSA_PSS, _PSS, digest, parameters.salt_length)


def _digest(identifier: AlgorithmIdentifier | None) -> str | None:
    if identifier is None:
        return "SHA1"
    if identifier.parameters_der not in {None, _NULL}:
        return None
    return _DIGESTS.get(identifier.oid)


@lru_cache(maxsize=64)
def _pss_identifier(digest: str) -> bytes:
    hash_ = algorithm(_DIGEST_OIDS[digest], _NULL)
    parameters = _PSSParameters(
        hash_algorithm=hash_, mask_gen_algorithm=algorithm(_MGF1, der(hash_)), salt_length=_DIGEST_BYTES[digest]
    )
    return der(algorithm(_RSASSA_PSS, der(parameters)))


def verify_signature(
    spki: bytes,
    algorithm: bytes,
    data: bytes,
    signature: bytes,
    *,
    bounds: KeyBounds = DEFAULT_KEY_BOUNDS,
    allow_weak: bool = False,
    keep: bool = True,
    library: Library | None = None,
) -> None:
    """Return when ``signature`` is one over ``data``.

    Args:
        spki: SubjectPublicKeyInfo of the key, DER.
        algorithm: AlgorithmIdentifier of the signature, DER.
        bounds: which RSA keys are accepted.
        allow_weak: accept MD5 and SHA-1.
        keep: remember the decoded key; False for one that will not be met again.
        library: where algorithms come from, by default the process's own.

    Raises:
        ProtectionError: badAlg for an algorithm or key that is not accepted, or that the library lacks, badMessageCheck
            when it does not verify.

    Source: EVP_DigestVerify(3).
    """
    method = signature_algorithm(algorithm)
    if method.weak and not allow_weak:
        raise ProtectionError(f"{method.name} is too weak", FailureInfo.BAD_ALG)
    result = lib.opensslcmp_verify(
        native(library),
        spki,
        len(spki),
        method.kind,
        bounds.min_rsa_bits,
        bounds.max_rsa_bits,
        keep,
        ffi.NULL if method.digest is None else method.digest.encode(),
        method.salt,
        data,
        len(data),
        signature,
        len(signature),
    )
    if result == 1:
        return
    if result == -2:
        raise ProtectionError(f"a key that may not verify {method.name}", FailureInfo.BAD_ALG)
    queue = drain() if result < 0 else ()
    if any("digital envelope routines" in entry and ("unsupported" in entry or "fetch" in entry) for entry in queue):
        raise ProtectionError(f"this OpenSSL has no {method.name}", FailureInfo.BAD_ALG, queue)
    raise ProtectionError("the signature does not verify", FailureInfo.BAD_MESSAGE_CHECK, queue)


_CURVES = {
    "p-224": "P-224",
    "secp224r1": "P-224",
    "p-256": "P-256",
    "prime256v1": "P-256",
    "secp256r1": "P-256",
    "p-384": "P-384",
    "secp384r1": "P-384",
    "p-521": "P-521",
    "secp521r1": "P-521",
} | {f"brainpoolp{bits}{form}1": f"brainpoolP{bits}{form}1" for bits in (224, 256, 320, 384, 512) for form in "rt"}
_KINDS = {
    "RSA": _RSA,
    "RSA-PSS": _PSS,
    "EC": _EC,
    "ED25519": lib.OPENSSLCMP_KIND_ED25519,
    "ED448": lib.OPENSSLCMP_KIND_ED448,
    "ML-DSA-44": lib.OPENSSLCMP_KIND_ML_DSA_44,
    "ML-DSA-65": lib.OPENSSLCMP_KIND_ML_DSA_65,
    "ML-DSA-87": lib.OPENSSLCMP_KIND_ML_DSA_87,
    "X25519": lib.OPENSSLCMP_KIND_X25519,
    "X448": lib.OPENSSLCMP_KIND_X448,
    "ML-KEM-512": lib.OPENSSLCMP_KIND_ML_KEM,
    "ML-KEM-768": lib.OPENSSLCMP_KIND_ML_KEM + 1,
    "ML-KEM-1024": lib.OPENSSLCMP_KIND_ML_KEM + 2,
} | {name.upper(): lib.OPENSSLCMP_KIND_SLH_DSA + number for number, name in enumerate(_SLH_DSA)}
KEY_KINDS = tuple(name.lower() for name in _KINDS)
"""What ``PrivateKey.generate`` makes, before the colon."""
_SINCE_3_5 = ("ML-DSA", "SLH-DSA", "ML-KEM")


def algorithm_of(kind: str) -> bytes:
    """AlgorithmIdentifier (DER) of the public keys of a kind, as ``PrivateKey.generate`` takes it; RSA without a size too.

    Raises:
        ValueError: no such kind.
    """
    type_, _, detail = kind.partition(":")
    if type_.upper() == "EC":
        curve = _CURVES.get((detail or "P-256").lower())
        if curve is not None:
            return der(algorithm(oids.EC_PUBLIC_KEY, encode(ObjectIdentifier(_CURVE_OIDS[curve]))))
    elif type_.upper() == "RSA":
        return der(algorithm(oids.RSA_ENCRYPTION, _NULL))
    elif not detail and type_.upper() in _KINDS and type_.upper() != "RSA-PSS":
        number = oids.number_of(
            {"ED25519": "id-Ed25519", "ED448": "id-Ed448", "X25519": "id-X25519", "X448": "id-X448"}.get(
                type_.upper(), f"id-{type_.lower()}"
            )
        ) or oids.number_of(f"id-alg-{type_.lower()}")
        if number is not None:
            return der(algorithm(number))
    raise ValueError(f"no such kind of key: {kind}")


_CURVE_OIDS = {
    "P-224": "1.3.132.0.33",
    "P-256": "1.2.840.10045.3.1.7",
    "P-384": "1.3.132.0.34",
    "P-521": "1.3.132.0.35",
} | {
    f"brainpoolP{bits}{form}1": f"1.3.36.3.3.2.8.1.1.{5 + 2 * number + second}"
    for number, bits in enumerate((224, 256, 320, 384, 512))
    for second, form in enumerate("rt")
}


class PrivateKey:
    """A private key that lives in libcrypto, or in a token behind one of its providers.

    May be used by several threads at once. Its repr shows type and size.

    >>> key = PrivateKey.generate("ec:P-256")
    >>> key
    <PrivateKey EC 256 bits>
    """

    __slots__ = ("_kind", "_ptr", "_size", "_spki", "bits", "key_type", "library")

    key_type: str
    """``EC``, ``RSA``, ``ED25519``..., as OpenSSL names it."""
    bits: int
    """The size as the algorithm counts it."""
    library: Library | None
    """Where it was loaded or made, and its algorithms come from; None for the process's own."""

    def __init__(self, pointer: Any, library: Library | None = None) -> None:
        # Asked once: later each question would be a crossing.
        self._ptr = pointer
        self.library = library
        self._size: int = lib.EVP_PKEY_get_size(pointer)
        self._spki: bytes | None = None
        name = lib.EVP_PKEY_get0_type_name(pointer)
        self.key_type = ffi.string(name).decode() if name else "unknown"
        self.bits = lib.EVP_PKEY_get_bits(pointer)
        self._kind = _KINDS.get(self.key_type.upper(), 0)

    @classmethod
    def load(cls, source: KeySource, password: Password = None, *, library: Library | None = None) -> PrivateKey:
        """The private key of ``source``.

        Args:
            source: a ``cryptography`` private key, PEM (bytes or text) or DER (PKCS#8, encrypted or not, a traditional
                form, or PKCS#12), a path to such a file, a provider URI (``pkcs11:``, ``file:``), or a PrivateKey.
            password: opens an encrypted key or a token; without one, nothing is asked on a terminal. A function is
                called once for it, when it is needed; a path is that of a file whose first line it is.
            library: the providers that read and hold it, by default the process's own.

        Raises:
            OpenSSLError: it does not decode, or the password is wrong or missing.
            OSError: the file cannot be read.
            ValueError: a PrivateKey of another library.

        Source: OSSL_STORE_open(3), OSSL_STORE_attach(3).
        """
        if isinstance(source, PrivateKey):
            if library is not None and source.library is not library:
                raise ValueError(
                    "the key was loaded in another library: load it with PrivateKey.load(..., library=...)"
                )
            return source
        try:
            pointer, _ = load_store(source, password, library)
        finally:
            source = password = None  # a traceback may show the locals of this frame
        if pointer is None:
            raise OpenSSLError((), "there is no private key in it")
        return cls(pointer, library)

    @classmethod
    def generate(cls, kind: str = "ec:P-256", *, library: Library | None = None, uri: str | None = None) -> PrivateKey:
        """A new key.

        Args:
            kind: ``ec:CURVE`` (P-224, P-256, P-384, P-521, brainpoolP256r1...), ``rsa:BITS``, ``rsa-pss:BITS``,
                ``ed25519``, ``ed448``, ``ml-dsa-44``, ``ml-dsa-65``, ``ml-dsa-87``, ``slh-dsa-sha2-128s`` and its eleven
                siblings up to ``slh-dsa-shake-256f``; and those that do not sign: ``x25519``, ``x448``, ``ml-kem-512``,
                ``ml-kem-768``, ``ml-kem-1024``.

            library: where it is made, by default the process's own.
            uri: ``pkcs11:token=T;object=NAME?pin-source=file:...`` (RFC 7512): made in that token, under that name, which it
                never leaves. The provider ``pkcs11`` must be loaded.

        Raises:
            ValueError: no such kind.
            OpenSSLError: the library does not make such keys.
            Unsupported: ML-DSA, SLH-DSA or ML-KEM on an OpenSSL before 3.5.

        Source: EVP_PKEY_generate(3).
        """
        type_, _, detail = kind.partition(":")
        type_ = type_.upper()
        group: bytes | None = None
        bits = 0
        if type_ == "EC":
            curve = _CURVES.get((detail or "P-256").lower())
            if curve is None:
                raise ValueError(f"no such curve: {detail}; there are P-256, P-384, P-521, brainpoolP256r1 and others")
            group = curve.encode()
        elif type_ in {"RSA", "RSA-PSS"}:
            bits = int(detail or 3072)
            if not 2048 <= bits <= 16384:
                raise ValueError("an RSA key must have 2048 to 16384 bits")
        elif type_ not in _KINDS or detail:
            raise ValueError(f"no such kind of key: {kind}")
        pointer = lib.opensslcmp_generate(
            native(library), type_.encode(), group or ffi.NULL, bits, ffi.NULL if uri is None else uri.encode()
        )
        if not pointer and type_.startswith(_SINCE_3_5) and not has("3.5"):
            drain()
            raise Unsupported(kind, "3.5")
        if not pointer and uri is not None:
            raise OpenSSLError(_without_pins(drain()), "no key is made in the token")
        return cls(own(pointer, lib.EVP_PKEY_free), library)

    @property
    def signs(self) -> bool:
        """Whether it is a key for signatures (an RSA key is for both)."""
        return bool(0 < self._kind < lib.OPENSSLCMP_KIND_X25519)

    @property
    def public_key_der(self) -> bytes:
        """SubjectPublicKeyInfo of the key.

        Raises:
            OpenSSLError: the provider does not give it.
        """
        if self._spki is None:
            out = ffi.new("unsigned char **")
            length = ffi.new("size_t *")
            check(lib.opensslcmp_spki(self._ptr, out, length) == 1)
            try:
                self._spki = bytes(ffi.buffer(out[0], length[0]))
            finally:
                lib.opensslcmp_free(out[0])
        return self._spki

    def signature_algorithm(self, digest: str | None = None, pss: bool = False) -> bytes:
        """The AlgorithmIdentifier (DER) of signatures by this key.

        Args:
            digest: as OpenSSL names it (``SHA256``, ``SHA3-256``, ``SHAKE128``); None for what fits the key.
            pss: RSASSA-PSS for an RSA key; SHAKE is never used in any other way with one (RFC 8702, 3).

        Raises:
            ValueError: this key does not sign like that.

        Source: RFC 9481, 3.
        """
        kind = self._kind
        if kind in {_EC, _RSA, _PSS}:
            name = digest.upper().replace("SHA-", "SHA") if digest else self._fitting_digest()
            if kind == _PSS or (kind == _RSA and pss and name not in _SHAKE_BYTES):
                if name in _DIGEST_OIDS:
                    return _pss_identifier(name)
            elif (not pss or kind == _RSA) and (kind, name) in _BY_KEY:
                return _BY_KEY[kind, name]
            raise ValueError(f"this key does not sign with {digest}")
        if not self.signs or digest or pss:
            raise ValueError(f"a key of type {self.key_type} does not sign with {digest or 'RSASSA-PSS'}")
        return _BY_KEY[kind, None]

    def _fitting_digest(self) -> str:
        bits = self.bits
        if self._kind == _EC:
            return "SHA256" if bits <= 256 else "SHA384" if bits <= 384 else "SHA512"
        return "SHA256"

    def sign(self, data: bytes, algorithm: bytes | None = None) -> bytes:
        """A signature over ``data``.

        Args:
            algorithm: AlgorithmIdentifier (DER), by default ``signature_algorithm()``.

        Raises:
            ProtectionError: badAlg, the algorithm is unknown or needs another kind of key.
            OpenSSLError: the key does not sign.

        Source: EVP_DigestSign(3).
        """
        method = signature_algorithm(self.signature_algorithm() if algorithm is None else algorithm)
        if method.kind != self._kind and not (method.kind == _PSS and self._kind == _RSA):
            raise ProtectionError(f"a key of type {self.key_type} cannot make {method.name}", FailureInfo.BAD_ALG)
        out = ffi.new("unsigned char[]", self._size)
        length = ffi.new("size_t *", self._size)
        digest = ffi.NULL if method.digest is None else method.digest.encode()
        check(
            lib.opensslcmp_sign(native(self.library), self._ptr, digest, method.salt, data, len(data), out, length) == 1
        )
        return bytes(ffi.buffer(out, length[0]))

    def to_pem(self, password: Password = None) -> bytes:
        """The key as PKCS#8 PEM, encrypted (PBES2 with AES-256) when there is a password.

        Raises:
            OpenSSLError: the key cannot leave its provider.

        Source: PEM_write_bio_PKCS8PrivateKey(3).
        """
        secret = password_of(password)
        out = ffi.new("unsigned char **")
        length = ffi.new("size_t *")
        if lib.opensslcmp_pem(self._ptr, ffi.NULL if secret is None else secret, len(secret or b""), out, length) != 1:
            raise OpenSSLError(drain(), "the key does not leave its provider")
        try:
            return bytes(ffi.buffer(out[0], length[0]))
        finally:
            lib.opensslcmp_free_secret(out[0], length[0])

    def to_pkcs8(self) -> bytes:
        """The key as PKCS #8 in DER, not encrypted: only for what seals it.

        Raises:
            OpenSSLError: the key cannot leave its provider.
        """
        return b64decode(b"".join(self.to_pem().splitlines()[1:-1]))

    def __repr__(self) -> str:
        return f"<PrivateKey {self.key_type} {self.bits} bits>"

    def __reduce__(self) -> Any:
        raise TypeError("a private key does not leave the process")


def load_store(source: Any, password: Password = None, library: Library | None = None) -> tuple[Any, list[bytes]]:
    """The first private key in ``source`` as an owned ``EVP_PKEY``, or None, and its certificates in DER.

    Args:
        source, password, library: as ``PrivateKey.load``.

    Raises:
        OpenSSLError: nothing in it decodes, or the password is wrong or missing.
        OSError: the file cannot be read.

    Source: OSSL_STORE_open(3), OSSL_STORE_attach(3).
    """
    uri: bytes | None = None
    data = b""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
    elif isinstance(source, os.PathLike):
        data = Path(source).read_bytes()
    elif isinstance(source, str):
        if source.startswith(("pkcs11:", "file:", "handle:", "org.openssl.")):
            uri = source.encode()
        elif "-----BEGIN" in source:
            data = source.encode()
        else:
            data = Path(source).read_bytes()
    elif hasattr(source, "private_bytes"):
        data = source.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    else:
        raise TypeError(f"not a source of a private key: {type(source).__name__}")
    secret = password_of(password)
    key = ffi.new("EVP_PKEY **")
    certificates = ffi.new("unsigned char **")
    length = ffi.new("size_t *")
    result = lib.opensslcmp_load(
        native(library),
        ffi.NULL if uri is None else uri,
        data,
        len(data),
        ffi.NULL if secret is None else secret,
        len(secret or b""),
        key,
        certificates,
        length,
    )
    pointer = own(key[0], lib.EVP_PKEY_free) if key[0] else None
    try:
        ders = bytes(ffi.buffer(certificates[0], length[0])) if certificates[0] else b""
    finally:
        lib.opensslcmp_free(certificates[0])
    if result != 1:
        # The queue may name algorithms and files, never a password; but a URI may hold a PIN.
        queue = drain()
        if uri is not None and b"pin" in uri:
            queue = _without_pins(queue)
        why = _why_not(uri, secret, library)
        source = uri = password = secret = None  # a traceback may show the locals of this frame
        data = b""
        raise OpenSSLError(queue, why)
    return pointer, split(ders)


def _why_not(uri: bytes | None, password: bytes | None, library: Library | None) -> str:
    """Why a key does not load, in words that a person can act on."""
    if uri is None or uri.startswith(b"file:"):
        given = "it is encrypted and no password was given" if password is None else "the password is another one"
        return f"the key does not load: wrong or missing password ({given}), or not a key"
    scheme = uri.partition(b":")[0].decode()
    if lib.opensslcmp_library_has(native(library), scheme.encode()) != 1:
        return f"no provider {scheme} is loaded: Library(providers=['default', '{scheme}']) or openssl.cnf loads one"
    return f"nothing is found under this {scheme} URI, or the PIN is wrong or missing"


def _without_pins(queue: Iterable[str]) -> list[str]:
    """The entries without their data, which may quote a URI."""
    return [entry.partition(" (")[0] for entry in queue]


def split(ders: bytes) -> list[bytes]:
    """DER elements that stand one after the other, one by one."""
    from opensslcmp.asn1 import read_header

    found = []
    at = 0
    while at < len(ders):
        _, _, end = read_header(ders, at, len(ders))
        found.append(ders[at:end])
        at = end
    return found


def password_of(password: Password) -> bytes | None:
    """The password itself, from wherever it is kept.

    Raises:
        OSError: its file cannot be read.
        ValueError: its file is empty.
    """
    if isinstance(password, os.PathLike):
        password = Path(password).read_bytes().partition(b"\n")[0].rstrip(b"\r")
        if not password:
            raise ValueError("the first line of the password's file is empty")
    elif callable(password):
        password = password()
    return password.encode() if isinstance(password, str) else password
