"""Key encapsulation, and MACs of messages under what it establishes.

Alice has a KEM key pair and protects her messages; Bob, who has her certificate, encapsulates a secret to it. Both derive the
MAC's key from the secret and from the transactionID of the message that brought the ciphertext.

RSA is a KEM too: RSASVE gives a random number as long as the modulus, from which KDF3 with SHA-256 makes a secret of 32 bytes
unless the parameters of id-kem-rsa say otherwise. Ours always say so: RFC 9690 leaves the length open where no CMS asks for one.

A secret that a peer's ciphertext does not fit is another one, for ML-KEM by implicit rejection and for RSA because each number
below the modulus decrypts to one: the MAC then does not verify, and nobody learns more.

Source: RFC 9810, 5.1.1.5, 5.1.3.4 and appendix E; RFC 9690; RFC 9936; RFC 8619; RFC 8702, 3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated

from cryptography.hazmat.asn1 import Default

from opensslcmp._native import ffi, lib
from opensslcmp._native.levels import has
from opensslcmp._native.queue import drain
from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    KemBMParameter,
    KemCiphertextInfo,
    KemOtherInfo,
    Message,
    SubjectPublicKeyInfo,
    algorithm,
    decode,
    der,
    oids,
    structure,
)
from opensslcmp.context import encryption
from opensslcmp.context.certificates import facts, load_certificates
from opensslcmp.context.keys import PrivateKey, password_of
from opensslcmp.context.library import Library, native
from opensslcmp.context.protection import ProtectionKind, Verified
from opensslcmp.credentials import KemCredential
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage, OpenSSLError, ProtectionError, Unsupported

__all__ = [
    "KemProtector",
    "KemSecret",
    "decapsulate",
    "derive",
    "encapsulate",
    "is_kem_key",
    "same_kem_key",
    "verify_kem",
]

_NULL = b"\x05\x00"
_ML_KEMS = frozenset((oids.ML_KEM_512, oids.ML_KEM_768, oids.ML_KEM_1024))
_RSAS = frozenset((oids.RSA_ENCRYPTION, oids.RSA_KEM_SPKI))
_RSA_SECRET_BYTES = 32
_MAX_SECRET_BYTES = 64
_HASHES = {oids.SHA256: "SHA256", oids.SHA384: "SHA384", oids.SHA512: "SHA512"}
_HKDF = {oids.HKDF_SHA256: "SHA256", oids.HKDF_SHA384: "SHA384", oids.HKDF_SHA512: "SHA512"}
_COUNTING = {oids.KDF2: "KDF2", oids.KDF3: "KDF3"}
_HMACS = {oids.HMAC_SHA256: b"SHA256", oids.HMAC_SHA384: b"SHA384", oids.HMAC_SHA512: b"SHA512"}
_KMACS = {oids.KMAC_SHAKE128: (b"KMAC128", 256), oids.KMAC_SHAKE256: (b"KMAC256", 512)}
_KDF_NAMES = {f"hkdf-{digest.lower()}": oid for oid, digest in _HKDF.items()}
_MAC_NAMES = {f"hmac-{digest.decode().lower()}": oid for oid, digest in _HMACS.items()} | {
    "kmac128": oids.KMAC_SHAKE128,
    "kmac256": oids.KMAC_SHAKE256,
}
_KEY_BYTES = {oids.HMAC_SHA384: 48, oids.HMAC_SHA512: 64, oids.KMAC_SHAKE256: 64}
_MIN_KEY_BYTES = 16


@structure
class _RsaKemParameters:
    key_derivation_function: AlgorithmIdentifier
    key_length: int


@structure
class _KmacParameters:
    output_bits: int | None = None
    customization: Annotated[bytes, Default(b"")] = b""


@lru_cache(maxsize=1)
def _rsa_kem() -> AlgorithmIdentifier:
    derivation = algorithm(oids.KDF3, der(algorithm(oids.SHA256)))
    parameters = _RsaKemParameters(key_derivation_function=derivation, key_length=_RSA_SECRET_BYTES)
    return algorithm(oids.KEM_RSA, der(parameters))


def _plain_rsa(spki: bytes) -> bytes:
    """The same key under rsaEncryption, as libcrypto knows it, when it is one for RSA-KEM only."""
    parsed = decode(SubjectPublicKeyInfo, spki)
    if parsed.algorithm.oid != oids.RSA_KEM_SPKI:
        return spki
    plain = algorithm(oids.RSA_ENCRYPTION, _NULL)
    return der(SubjectPublicKeyInfo(algorithm=plain, subject_public_key=parsed.subject_public_key))


def is_kem_key(spki: bytes) -> bool:
    """Whether this SubjectPublicKeyInfo (DER) is of a kind that secrets can be encapsulated to: ML-KEM and RSA."""
    try:
        return decode(SubjectPublicKeyInfo, spki).algorithm.oid in _RSAS | _ML_KEMS
    except ValueError:
        return False


def same_kem_key(spki: bytes, other: bytes) -> bool:
    """Whether both are the same key, which for RSA may be written with rsaEncryption or id-rsa-kem-spki."""
    return spki == other or _plain_rsa(spki) == _plain_rsa(other)


def encapsulate(spki: bytes, *, library: Library | None = None) -> tuple[KemCiphertextInfo, bytes]:
    """A ciphertext for the holder of the key (SubjectPublicKeyInfo in DER), and the secret in it.

    Raises:
        ProtectionError: badAlg, the key is of no KEM, out of bounds, or of one that this OpenSSL lacks.

    Source: RFC 9629, 1; RFC 9690, A.1.
    """
    if not is_kem_key(spki):
        raise ProtectionError("a key that nothing can be encapsulated to", FailureInfo.BAD_ALG)
    kem = decode(SubjectPublicKeyInfo, spki).algorithm
    try:
        ciphertext, secret = encryption.encapsulate(_plain_rsa(spki), library=library)
    except Unsupported as error:
        raise ProtectionError(str(error), FailureInfo.BAD_ALG) from None
    except BadMessage as error:
        raise ProtectionError(error.text, error.failure) from None
    if kem.oid in _RSAS:
        kem = _rsa_kem()
        secret = _rsa_secret(kem, secret, library)
    return KemCiphertextInfo(kem=kem, ct=ciphertext), secret


def decapsulate(key: PrivateKey, info: KemCiphertextInfo) -> bytes:
    """The secret in a ciphertext.

    Raises:
        ProtectionError: badMessageCheck (RFC 9810, 5.1.3.4), it is for another kind of key, or not of the right length.

    Source: RFC 9690, A.2.
    """
    own = decode(SubjectPublicKeyInfo, key.public_key_der).algorithm.oid
    if info.kem.oid not in (_RSAS | {oids.KEM_RSA} if own in _RSAS else {own}):
        raise ProtectionError("a KEM ciphertext for another kind of key", FailureInfo.BAD_MESSAGE_CHECK)
    try:
        secret = encryption.decapsulate(key, info.ct)
    except BadMessage as error:
        raise ProtectionError(error.text, error.failure) from None
    return _rsa_secret(info.kem, secret, key.library) if own in _RSAS else secret


def _rsa_secret(kem: AlgorithmIdentifier, z: bytes, library: Library | None) -> bytes:
    """SS = KDF(Z, ssLen) (RFC 9690, A.1)."""
    given = kem.parameters_der
    if kem.oid != oids.KEM_RSA or given is None:
        given = _rsa_kem().parameters_der
    try:
        parameters = decode(_RsaKemParameters, given or b"")
    except ValueError:
        raise ProtectionError("RsaKemParameters that do not decode", FailureInfo.BAD_MESSAGE_CHECK) from None
    if not _MIN_KEY_BYTES <= parameters.key_length <= _MAX_SECRET_BYTES:
        raise ProtectionError("RSA-KEM with a secret of an unusual length", FailureInfo.BAD_MESSAGE_CHECK)
    return derive(parameters.key_derivation_function, z, parameters.key_length, library=library)


def derive(
    kdf: AlgorithmIdentifier, secret: bytes, length: int, info: bytes = b"", *, library: Library | None = None
) -> bytes:
    """KDF(secret, length, info): HKDF without a salt, KDF2 or KDF3, over SHA-2 from 256 bits on.

    Raises:
        ProtectionError: badAlg, another one.

    Source: RFC 9629, 5; RFC 8619; RFC 9690, B.1.
    """
    name = digest = None
    if kdf.oid in _HKDF and kdf.parameters is None:
        name, digest = "HKDF", _HKDF[kdf.oid]
    elif kdf.oid in _COUNTING:
        try:
            hash_ = decode(AlgorithmIdentifier, kdf.parameters_der or b"")
        except ValueError:
            raise ProtectionError("a key derivation without its hash", FailureInfo.BAD_ALG) from None
        if hash_.parameters_der in {None, _NULL}:
            name, digest = _COUNTING[kdf.oid], _HASHES.get(hash_.oid)
    if name is None or digest is None:
        raise ProtectionError(f"key derivation {oids.name_of(kdf.oid)} is not supported", FailureInfo.BAD_ALG)
    return encryption.derive(name, digest, secret, info, length, library=library)


def _mac(
    identifier: AlgorithmIdentifier, key: bytes, data: bytes, expected: bytes | None, library: Library | None
) -> tuple[int, bytes]:
    """HMAC (RFC 4231) or KMAC (RFC 8702, 3.4): the MAC, or with ``expected`` whether it is the same (1 or 0)."""
    name, digest, size, custom = b"HMAC", _HMACS.get(identifier.oid), 0, b""
    if digest is not None:
        if identifier.parameters_der not in {None, _NULL}:
            raise ProtectionError("HMAC with parameters", FailureInfo.BAD_ALG)
    elif identifier.oid in _KMACS:
        name, size = _KMACS[identifier.oid]
        if identifier.parameters_der is not None:
            try:
                parameters = decode(_KmacParameters, identifier.parameters_der)
            except ValueError:
                raise ProtectionError("KMAC parameters that do not decode", FailureInfo.BAD_ALG) from None
            size, custom = parameters.output_bits or size, parameters.customization
        if not 128 <= size <= 512 or size % 8 or len(custom) > 64:
            raise ProtectionError("KMAC with an unusual length or text", FailureInfo.BAD_ALG)
        size //= 8
    else:
        raise ProtectionError(f"MAC {oids.name_of(identifier.oid)} is not supported", FailureInfo.BAD_ALG)
    out = ffi.new("unsigned char[64]")
    length = ffi.new("size_t *")
    result = lib.opensslcmp_keyed_mac(
        native(library),
        name,
        ffi.NULL if digest is None else digest,
        size,
        custom,
        len(custom),
        key,
        len(key),
        data,
        len(data),
        out,
        length,
        ffi.NULL if expected is None else expected,
        len(expected or b""),
    )
    if result < 0:
        raise ProtectionError("the MAC cannot be computed", FailureInfo.BAD_ALG, drain())
    return result, bytes(ffi.buffer(out, length[0]))


@dataclass(frozen=True, slots=True)
class KemSecret:
    """What was encapsulated in a transaction, to whom.

    Attributes:
        secret: the shared secret, never shown by repr.
        transaction_id: of the message that brought the ciphertext.
        chain: the path of the KEM certificate to an anchor, that certificate first.
    """

    secret: bytes = field(repr=False)
    transaction_id: bytes
    chain: tuple[bytes, ...] = field(default=(), repr=False)

    def key(self, parameters: KemBMParameter, library: Library | None = None) -> bytes:
        """The key of the MAC (RFC 9810, 5.1.3.4).

        Raises:
            ProtectionError: badAlg.
        """
        if not _MIN_KEY_BYTES <= parameters.len <= _MAX_SECRET_BYTES:
            raise ProtectionError("a MAC key of an unusual length", FailureInfo.BAD_ALG)
        info = KemOtherInfo(
            static_string=["CMP-KEM"], transaction_id=self.transaction_id, kem_context=parameters.kem_context
        )
        return derive(parameters.kdf, self.secret, parameters.len, der(info), library=library)


def verify_kem(message: Message, secret: KemSecret, library: Library | None = None) -> Verified:
    """Who protected a message with a KEM-based MAC.

    Args:
        secret: encapsulated to the certificate of ``secret.chain``, whose path was verified.

    Raises:
        ProtectionError: badAlg; badMessageCheck, the MAC does not verify.

    Source: RFC 9810, 5.1.3.4.
    """
    parameters = message.mac
    if not isinstance(parameters, KemBMParameter) or message.protection is None:
        raise ProtectionError("not a KEM-based MAC", FailureInfo.BAD_MESSAGE_CHECK)
    key = secret.key(parameters, library)
    if _mac(parameters.mac, key, message.protected_part, message.protection, library)[0] != 1:
        raise ProtectionError("the MAC does not verify", FailureInfo.BAD_MESSAGE_CHECK)
    certificate = secret.chain[0]
    return Verified(
        kind=ProtectionKind.KEM,
        certificate=certificate,
        chain=secret.chain,
        algorithm=oids.name_of(oids.KEM_BASED_MAC),
        identity=b"cert:" + facts(certificate).fingerprint,
    )


class KemProtector:
    """Protects with a KEM key, once the peer has encapsulated a secret to its certificate.

    Args:
        credential: certificate, key and chain.
        library: reads and holds the key, by default the process's own.

    Raises:
        ValueError: the key is not the certificate's, or of no KEM; or there is no such KDF or MAC.
        OpenSSLError: the key does not load.
        Unsupported: an ML-KEM key on an OpenSSL before 3.5.
    """

    __slots__ = ("_parameters", "_secret", "certificates", "identity", "key", "sender_kid", "sender_name")

    kind = ProtectionKind.KEM

    def __init__(self, credential: KemCredential, *, library: Library | None = None) -> None:
        password = password_of(credential.password)
        found = load_certificates(credential.certificate, password, library)
        try:
            self.key = PrivateKey.load(credential.key, password, library=library)
        except OpenSSLError:
            if not has("3.5") and decode(SubjectPublicKeyInfo, facts(found[0]).spki).algorithm.oid in _ML_KEMS:
                raise Unsupported("ML-KEM", "3.5") from None
            raise
        spki = self.key.public_key_der
        if not is_kem_key(spki):
            raise ValueError(f"a key of type {self.key.key_type} is of no KEM")
        own = next((each for each in found if same_kem_key(facts(each).spki, spki)), None)
        if own is None:
            raise ValueError("the key is not the certificate's")
        about = facts(own)
        chain = [each for source in credential.chain for each in load_certificates(source, None, library)]
        self.certificates = tuple(dict.fromkeys((own, *(each for each in found if each != own), *chain)))
        self.sender_name, self.sender_kid = about.subject, about.key_id
        self.identity = b"cert:" + about.fingerprint
        if credential.kdf not in {*_KDF_NAMES, "kdf3-sha256"} or credential.mac not in _MAC_NAMES:
            raise ValueError(f"no such KEM-based MAC: {credential.kdf} and {credential.mac}")
        mac = _MAC_NAMES[credential.mac]
        kdf = _KDF_NAMES.get(credential.kdf)
        self._parameters = KemBMParameter(
            kdf=algorithm(oids.KDF3, der(algorithm(oids.SHA256))) if kdf is None else algorithm(kdf),
            len=_KEY_BYTES.get(mac, 32),
            mac=algorithm(mac),
        )
        self._secret: bytes | None = None

    def of_one_transaction(self, info: KemCiphertextInfo, transaction_id: bytes) -> KemProtector:
        """The same for the transaction in which the peer sent a ciphertext.

        Raises:
            ProtectionError: badMessageCheck, it cannot be decapsulated.
        """
        bound = object.__new__(KemProtector)
        for name in ("_parameters", "certificates", "identity", "key", "sender_kid", "sender_name"):
            setattr(bound, name, getattr(self, name))
        secret = KemSecret(decapsulate(self.key, info), transaction_id)
        bound._secret = secret.key(self._parameters, self.key.library)
        return bound

    def begin(self) -> tuple[bytes, Callable[[bytes], bytes]]:
        """protectionAlg and the MAC; only for one transaction."""
        key = self._secret
        if key is None:
            raise ValueError("the peer has not encapsulated anything yet")

        def mac(part: bytes) -> bytes:
            return _mac(self._parameters.mac, key, part, None, self.key.library)[1]

        return der(algorithm(oids.KEM_BASED_MAC, der(self._parameters))), mac

    def __repr__(self) -> str:
        return f"<KemProtector {self.key!r}>"
