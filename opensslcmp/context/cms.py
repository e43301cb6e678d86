"""Sealed for one recipient (EnvelopedData) and signed (SignedData): how CMP carries private keys, certificates and challenges.

The structures are ``opensslcmp.asn1.cms``, in memory-safe code; only the primitives of ``context.encryption`` and signatures are
libcrypto's. So a peer's bytes never meet libcrypto's CMS decoder, a private key stays in its provider, and every OpenSSL
since 3.0 does the same.

How the content-encryption key comes to its recipient, chosen by the recipient's key (RFC 9810, 5.2.2):

- RSA: RSAES-OAEP with SHA-256; PKCS #1 v1.5 or RSA-KEM (RFC 9690) where that is asked for;
- EC: ephemeral-static ECDH, or with a key of the originator's that the recipient knows; X9.63's KDF (RFC 5753);
- X25519, X448: ECDH with HKDF (RFC 8418);
- ML-KEM: HKDF with SHA-256 (RFC 9629, RFC 9936);
- a password: PBKDF2 and AES key wrap (RFC 9481, 4.4), or RFC 3211's wrap, the only one that OpenSSL's own CMS knows.

Content is encrypted by AES-256-CBC, and what is opened may be by any AES-CBC. CBC says nothing of who made it: open only what
stands in a message whose protection was verified.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.asn1 import Explicit

from opensslcmp.asn1 import (
    NULL_DN,
    AlgorithmIdentifier,
    PBKDF2Params,
    SubjectPublicKeyInfo,
    algorithm,
    cms,
    decode,
    der,
    encode,
    oids,
    structure,
    tlv,
    wrap,
)
from opensslcmp.context.certificates import Facts, Trust, facts
from opensslcmp.context.encryption import (
    DOES_NOT_OPEN,
    agree,
    cbc,
    decapsulate,
    decrypt_key,
    derive,
    encapsulate,
    encrypt_key,
    key_type,
    pbkdf2,
    shared_secret,
    unwrap_key,
    wrap_key,
)
from opensslcmp.context.keys import DEFAULT_KEY_BOUNDS, KeyBounds, PrivateKey, signature_algorithm, verify_signature
from opensslcmp.context.library import Library, digest
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage, ProtectionError

__all__ = [
    "DEFAULT_ENVELOPE_LIMITS",
    "EnvelopeLimits",
    "Originator",
    "PasswordRecipient",
    "Recipient",
    "VerifiedData",
    "may_agree",
    "may_encipher",
    "open_enveloped",
    "seal",
    "sign_data",
    "verify_signed_data",
]

_WRAPS = {oids.AES128_WRAP: 16, oids.AES192_WRAP: 24, oids.AES256_WRAP: 32}
_CBCS = {oids.AES128_CBC: 16, oids.AES192_CBC: 24, oids.AES256_CBC: 32}
_HKDFS = {oids.HKDF_SHA256: "SHA256", oids.HKDF_SHA384: "SHA384", oids.HKDF_SHA512: "SHA512"}
_PRFS = {
    oids.HMAC_SHA1: "SHA1",
    "1.2.840.113549.2.8": "SHA224",
    oids.HMAC_SHA256: "SHA256",
    oids.HMAC_SHA384: "SHA384",
    oids.HMAC_SHA512: "SHA512",
}
_DIGESTS = {
    oids.SHA1: "SHA1",
    oids.SHA224: "SHA224",
    oids.SHA256: "SHA256",
    oids.SHA384: "SHA384",
    oids.SHA512: "SHA512",
}
_SIGNED_DIGESTS = _DIGESTS | {
    f"2.16.840.1.101.3.4.2.{7 + number}": f"SHA3-{bits}" for number, bits in enumerate((224, 256, 384, 512))
}
# dhSinglePass-stdDH-*kdf-scheme (RFC 5753) and dhSinglePass-stdDH-hkdf-*-scheme (RFC 8418)
_STD_DH = {f"1.3.132.1.11.{arc}": name for arc, name in enumerate(("SHA224", "SHA256", "SHA384", "SHA512"))}
_HKDF_DH = {f"1.2.840.113549.1.9.16.3.{19 + arc}": name for arc, name in enumerate(("SHA256", "SHA384", "SHA512"))}
_NULL = b"\x05\x00"
_KEK = algorithm(oids.AES256_WRAP)
_KEK_BYTES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvelopeLimits:
    """Bounds on what opening may cost, all inclusive.

    Attributes:
        max_bytes: of the EnvelopedData.
        max_iterations: of PBKDF2 (200,000 take about 100 ms).
        max_salt_bytes: of PBKDF2's salt and of user keying material.
    """

    max_bytes: int = 1 << 20
    max_iterations: int = 200_000
    max_salt_bytes: int = 256


DEFAULT_ENVELOPE_LIMITS = EnvelopeLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipient:
    """To whose key something is sealed.

    Attributes:
        spki: SubjectPublicKeyInfo, DER.
        key_id: subjectKeyIdentifier of the certificate, None when it has none.
        issuer, serial_number: of the certificate, where there is no key_id.
        rsa: how an RSA key gets the content-encryption key: ``oaep``, ``pkcs1`` or ``kem``.
    """

    spki: bytes
    key_id: bytes | None = None
    issuer: bytes = NULL_DN
    serial_number: int = 0
    rsa: Literal["oaep", "pkcs1", "kem"] = "oaep"

    @classmethod
    def of(cls, certificate: bytes, rsa: Literal["oaep", "pkcs1", "kem"] = "oaep") -> Recipient:
        """The owner of a certificate (DER)."""
        about = facts(certificate)
        return cls(
            spki=about.spki, key_id=about.key_id, issuer=about.issuer, serial_number=about.serial_number, rsa=rsa
        )

    @property
    def rid(self) -> bytes:
        """RecipientIdentifier, DER: the subjectKeyIdentifier when there is one (RFC 9483, 4.1.6)."""
        if self.key_id is not None:
            return cms.key_identifier(self.key_id)
        return cms.issuer_and_serial(self.issuer, self.serial_number)

    @property
    def agreement_rid(self) -> bytes:
        """KeyAgreeRecipientIdentifier, DER."""
        if self.key_id is not None:
            return wrap(0xA0, encode(self.key_id))
        return self.rid


@dataclass(frozen=True, kw_only=True, slots=True)
class PasswordRecipient:
    """A shared secret that something is sealed with.

    Attributes:
        secret: never shown by repr.
        iterations: of PBKDF2.
        prf: hash of its HMAC.
        key_wrap: ``aes`` (RFC 9481, 4.4), or ``pwri-kek`` (RFC 3211).
    """

    secret: bytes = field(repr=False)
    iterations: int = 10_000
    prf: Literal["SHA256", "SHA384", "SHA512"] = "SHA256"
    key_wrap: Literal["aes", "pwri-kek"] = "aes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Originator:
    """The sender's own key for key agreement, by a certificate that the recipient has (RFC 9483, 4.1.6.2)."""

    key: PrivateKey
    certificate: bytes

    def fits(self, spki: bytes) -> bool:
        """Whether its key is one of the same curve as ``spki`` and may be used for key agreement (keyUsage, bit 4)."""
        about = facts(self.certificate)
        same = der(decode(SubjectPublicKeyInfo, about.spki).algorithm) == der(
            decode(SubjectPublicKeyInfo, spki).algorithm
        )
        return same and key_type(spki) == "EC" and may_agree(about)


def may_agree(about: Facts) -> bool:
    """keyUsage allows keyAgreement, or there is none."""
    return about.key_usage is None or bool(about.key_usage >> 8 & 0x08)


def may_encipher(about: Facts) -> bool:
    """keyUsage allows keyEncipherment, or there is none."""
    return about.key_usage is None or bool(about.key_usage >> 8 & 0x20)


# -- sealing -------------------------------------------------------------------------------------------------------


def seal(
    content: bytes,
    recipient: Recipient | PasswordRecipient,
    *,
    content_type: str = oids.CT_DATA,
    originator: Originator | None = None,
    bounds: KeyBounds = DEFAULT_KEY_BOUNDS,
    library: Library | None = None,
) -> bytes:
    """EnvelopedData (a SEQUENCE in DER) that only ``recipient`` opens.

    Args:
        content_type: what ``content`` is.
        originator: our key for key agreement with an EC key, where it fits; else a new one is made for each call.

    Raises:
        BadMessage: badAlg, the recipient's key is not one that can be sealed to.
        Unsupported: ML-KEM on an OpenSSL before 3.5.

    Source: RFC 5652, 6; RFC 9810, 5.2.2.
    """
    key, iv = os.urandom(32), os.urandom(16)
    info: cms.Recipient
    if isinstance(recipient, PasswordRecipient):
        info = _for_password(key, recipient, library)
    else:
        try:
            kind = key_type(recipient.spki)
        except ValueError:
            kind = ""
        if kind == "RSA" and recipient.rsa != "kem":
            info = _for_transport(key, recipient, bounds, library)
        elif kind in {"RSA", "ML-KEM"}:
            info = _for_encapsulation(key, recipient, bounds, library)
        elif kind:
            info = _for_agreement(key, recipient, originator, kind, library)
        else:
            raise BadMessage(FailureInfo.BAD_ALG, "a key that nothing can be encrypted to")
    encrypted = cms.EncryptedContentInfo(
        content_type=x509.ObjectIdentifier(content_type),
        content_encryption_algorithm=algorithm(oids.AES256_CBC, encode(iv)),
        encrypted_content=cbc(True, key, iv, content, library=library),
    )
    return cms.EnvelopedData(recipient=info, content=encrypted).to_der()


@structure
class _OAEPParameters:
    hash_algorithm: Annotated[AlgorithmIdentifier | None, Explicit(0)] = None
    mask_gen_algorithm: Annotated[AlgorithmIdentifier | None, Explicit(1)] = None
    p_source_algorithm: Annotated[AlgorithmIdentifier | None, Explicit(2)] = None


def _for_transport(key: bytes, to: Recipient, bounds: KeyBounds, library: Library | None) -> cms.KeyTransRecipientInfo:
    if to.rsa == "pkcs1":
        how, identifier = None, algorithm(oids.RSA_ENCRYPTION, _NULL)
    else:
        hash_ = algorithm(oids.SHA256, _NULL)
        parameters = _OAEPParameters(hash_algorithm=hash_, mask_gen_algorithm=algorithm(oids.MGF1, encode(hash_)))
        how, identifier = "SHA256", algorithm(oids.RSAES_OAEP, encode(parameters))
    return cms.KeyTransRecipientInfo(
        version=0 if to.key_id is None else 2,
        rid=tlv(to.rid),
        key_encryption_algorithm=identifier,
        encrypted_key=encrypt_key(to.spki, key, oaep=how, bounds=bounds, library=library),
    )


_SCHEMES = {digest: oid for oid, digest in _STD_DH.items()}
_HKDF_SCHEMES = {digest: oid for oid, digest in _HKDF_DH.items()}


def _for_agreement(
    key: bytes, to: Recipient, originator: Originator | None, kind: str, library: Library | None
) -> cms.KeyAgreeRecipientInfo:
    public = decode(SubjectPublicKeyInfo, to.spki)
    ukm = None
    if originator is not None and originator.fits(to.spki):
        ours = originator.key
        # Without something new in each message, two static keys give the same key every time.
        ukm = os.urandom(32)
        about = facts(originator.certificate)
        source = (
            cms.issuer_and_serial(about.issuer, about.serial_number)
            if about.key_id is None
            else cms.key_identifier(about.key_id)
        )
    else:
        ours = _ephemeral(public, kind, library)
        own = decode(SubjectPublicKeyInfo, ours.public_key_der)
        info = cms.OriginatorPublicKey(algorithm=public.algorithm, public_key=own.subject_public_key)
        source = b"\xa1" + encode(info)[1:]
    if kind == "EC":
        digest_ = "SHA256" if ours.bits <= 256 else "SHA384" if ours.bits <= 384 else "SHA512"
        scheme = _SCHEMES[digest_]
    else:
        digest_ = "SHA256" if kind == "X25519" else "SHA512"
        scheme = _HKDF_SCHEMES[digest_]
    kek = _agreed(agree(ours, to.spki), scheme, _KEK, _KEK_BYTES, ukm, library)
    return cms.KeyAgreeRecipientInfo(
        version=3,
        originator=tlv(source),
        ukm=ukm,
        key_encryption_algorithm=algorithm(scheme, encode(_KEK)),
        recipient_encrypted_keys=[
            cms.RecipientEncryptedKey(rid=tlv(to.agreement_rid), encrypted_key=wrap_key(kek, key, library))
        ],
    )


_CURVES = {
    "1.3.132.0.33": "P-224",
    "1.2.840.10045.3.1.7": "P-256",
    "1.3.132.0.34": "P-384",
    "1.3.132.0.35": "P-521",
} | {
    f"1.3.36.3.3.2.8.1.1.{5 + number}": f"brainpoolP{bits}{form}1"
    for number, (bits, form) in enumerate((bits, form) for bits in (224, 256, 320, 384, 512) for form in "rt")
}


def _ephemeral(public: SubjectPublicKeyInfo, kind: str, library: Library | None) -> PrivateKey:
    if kind != "EC":
        return PrivateKey.generate(kind, library=library)
    try:
        curve = _CURVES[decode(x509.ObjectIdentifier, public.algorithm.parameters_der or b"").dotted_string]
    except (ValueError, KeyError):
        raise BadMessage(FailureInfo.BAD_ALG, "a key on a curve that is not accepted") from None
    return PrivateKey.generate(f"ec:{curve}", library=library)


def _agreed(
    secret: bytes,
    scheme: str,
    key_wrap: AlgorithmIdentifier,
    size: int,
    ukm: bytes | None,
    library: Library | None,
) -> bytes:
    """RFC 5753, 7.2; RFC 8418, 2."""
    info = cms.EccCmsSharedInfo(key_info=key_wrap, entity_u_info=ukm, supp_pub_info=(8 * size).to_bytes(4, "big"))
    if scheme in _STD_DH:
        return derive("X963", _STD_DH[scheme], secret, encode(info), size, library=library)
    return derive("HKDF", _HKDF_DH[scheme], secret, encode(info), size, salt=ukm or b"", library=library)


def _for_encapsulation(key: bytes, to: Recipient, bounds: KeyBounds, library: Library | None) -> cms.KEMRecipientInfo:
    ciphertext, secret = encapsulate(to.spki, bounds=bounds, library=library)
    if key_type(to.spki) == "RSA":
        kem = algorithm(oids.KEM_RSA)
        kdf = algorithm(oids.KDF3, encode(algorithm(oids.SHA256)))
        secret = shared_secret(secret, _KEK_BYTES, library=library)
    else:
        kem = decode(SubjectPublicKeyInfo, to.spki).algorithm
        kdf = algorithm(oids.HKDF_SHA256)
    draft = cms.KEMRecipientInfo(
        version=0,
        rid=tlv(to.rid),
        kem=kem,
        kemct=ciphertext,
        kdf=kdf,
        kek_length=_KEK_BYTES,
        wrap=_KEK,
        encrypted_key=b"",
    )
    return cms.KEMRecipientInfo(
        version=0,
        rid=draft.rid,
        kem=kem,
        kemct=ciphertext,
        kdf=kdf,
        kek_length=_KEK_BYTES,
        wrap=_KEK,
        encrypted_key=wrap_key(_encapsulated(secret, draft, library), key, library),
    )


def _encapsulated(secret: bytes, info: cms.KEMRecipientInfo, library: Library | None) -> bytes:
    """The key-encryption key of a KEMRecipientInfo (RFC 9629, 5)."""
    if info.kdf.oid in _HKDFS:
        name, digest_ = "HKDF", _HKDFS[info.kdf.oid]
    elif info.kdf.oid in {oids.KDF2, oids.KDF3}:
        name = "KDF2" if info.kdf.oid == oids.KDF2 else "KDF3"
        digest_ = _digest_of(decode(AlgorithmIdentifier, info.kdf.parameters_der or b""))
    else:
        raise BadMessage(FailureInfo.BAD_ALG, "a key derivation that is not supported")
    return derive(name, digest_, secret, cms.kem_other_info(info), info.kek_length, library=library)


def _digest_of(identifier: AlgorithmIdentifier) -> str:
    name = _DIGESTS.get(identifier.oid)
    if name is None or identifier.parameters_der not in {None, _NULL}:
        raise BadMessage(FailureInfo.BAD_ALG, "a hash that is not supported")
    return name


def _for_password(key: bytes, to: PasswordRecipient, library: Library | None) -> cms.PasswordRecipientInfo:
    salt = os.urandom(16)
    prf = next(oid for oid, name in _PRFS.items() if name == to.prf)
    parameters = PBKDF2Params(
        salt=salt, iteration_count=to.iterations, key_length=_KEK_BYTES, prf=algorithm(prf, _NULL)
    )
    kek = pbkdf2(to.prf, to.secret, salt, to.iterations, _KEK_BYTES, library)
    if to.key_wrap == "aes":
        identifier, wrapped = _KEK, wrap_key(kek, key, library)
    else:
        iv = os.urandom(16)
        identifier = algorithm(oids.PWRI_KEK, encode(algorithm(oids.AES256_CBC, encode(iv))))
        wrapped = _wrap_with_password(kek, iv, key, library)
    return cms.PasswordRecipientInfo(
        version=0,
        key_derivation_algorithm=algorithm(oids.PBKDF2, encode(parameters)),
        key_encryption_algorithm=identifier,
        encrypted_key=wrapped,
    )


def _wrap_with_password(kek: bytes, iv: bytes, key: bytes, library: Library | None) -> bytes:
    """RFC 3211, 2.3.1: length, check value, key and padding, encrypted twice."""
    block = bytes((len(key), *(255 - octet for octet in key[:3]))) + key
    block += os.urandom(max(-len(block) % 16, 32 - len(block)))
    once = cbc(True, kek, iv, block, padding=False, library=library)
    return cbc(True, kek, once[-16:], once, padding=False, library=library)


def _unwrap_with_password(kek: bytes, iv: bytes, wrapped: bytes, library: Library | None) -> bytes:
    """RFC 3211, 2.3.2."""
    if len(wrapped) % 16 or not 32 <= len(wrapped) <= 128:
        raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, DOES_NOT_OPEN)
    last = cbc(False, kek, wrapped[-32:-16], wrapped[-16:], padding=False, library=library)
    once = cbc(False, kek, last, wrapped, padding=False, library=library)
    block = cbc(False, kek, iv, once, padding=False, library=library)
    size, check, key = block[0], block[1:4], block[4 : 4 + block[0]]
    if len(key) != size or any(a ^ b != 0xFF for a, b in zip(check, key, strict=False)):
        raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, DOES_NOT_OPEN)
    return key


# -- opening -------------------------------------------------------------------------------------------------------


def open_enveloped(
    data: bytes,
    secret: PrivateKey | bytes,
    *,
    content_type: str | None = None,
    originators: Iterable[bytes] = (),
    limits: EnvelopeLimits = DEFAULT_ENVELOPE_LIMITS,
    library: Library | None = None,
) -> bytes:
    """The content of EnvelopedData.

    Args:
        data: a SEQUENCE in DER.
        secret: the recipient's private key, or the password.
        content_type: what it must be; None for anything.
        originators: certificates (DER) one of which has the sender's key for key agreement, where the recipient's part
            only names it.

    Raises:
        BadMessage: badDataFormat, badAlg, or badMessageCheck when it does not open, with the same text whatever failed.

    Source: RFC 5652, 6.
    """
    if len(data) > limits.max_bytes:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "encrypted data that are too long")
    library = secret.library if isinstance(secret, PrivateKey) else library
    try:
        parsed = cms.EnvelopedData.from_der(data)
        content = parsed.content
        size = _CBCS.get(content.content_encryption_algorithm.oid)
        if size is None:
            raise BadMessage(FailureInfo.BAD_ALG, "content encrypted in a way that is not supported")
        iv = decode(bytes, content.content_encryption_algorithm.parameters_der or b"")
        if content_type is not None and content.content_type.dotted_string != content_type:
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "encrypted data of another type")
        key = _content_key(parsed.recipient, secret, size, tuple(originators), limits, library)
        encrypted = content.encrypted_content or b""
        if len(encrypted) % 16 or not encrypted or len(key) != size:
            raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, DOES_NOT_OPEN)
        return cbc(False, key, iv, encrypted, library=library)
    except (ValueError, OverflowError) as error:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"encrypted data that do not decode: {error}") from None


def _content_key(
    info: cms.Recipient,
    secret: PrivateKey | bytes,
    size: int,
    originators: Sequence[bytes],
    limits: EnvelopeLimits,
    library: Library | None,
) -> bytes:
    if isinstance(info, cms.PasswordRecipientInfo):
        if isinstance(secret, bytes):
            return _by_password(info, secret, limits, library)
    elif isinstance(secret, bytes):
        pass
    elif isinstance(info, cms.KeyTransRecipientInfo):
        return _by_transport(info, secret, size)
    elif isinstance(info, cms.KeyAgreeRecipientInfo):
        return _by_agreement(info, secret, originators, limits)
    else:
        return _by_encapsulation(info, secret, limits)
    raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, "encrypted for another kind of recipient")


def _by_transport(info: cms.KeyTransRecipientInfo, key: PrivateKey, size: int) -> bytes:
    identifier = info.key_encryption_algorithm
    if identifier.oid == oids.RSA_ENCRYPTION:
        return decrypt_key(key, info.encrypted_key, size, oaep=None)
    if identifier.oid != oids.RSAES_OAEP:
        raise BadMessage(FailureInfo.BAD_ALG, "a key transport that is not supported")
    parameters = decode(_OAEPParameters, identifier.parameters_der or b"0\x00")
    hash_, mask, label = parameters.hash_algorithm, parameters.mask_gen_algorithm, parameters.p_source_algorithm
    if label is not None and (label.oid != oids.PSPECIFIED or label.parameters_der not in {None, b"\x04\x00"}):
        raise BadMessage(FailureInfo.BAD_ALG, "RSAES-OAEP with a label")
    if mask is not None and mask.oid != oids.MGF1:
        raise BadMessage(FailureInfo.BAD_ALG, "RSAES-OAEP with another mask")
    return decrypt_key(
        key,
        info.encrypted_key,
        size,
        oaep="SHA1" if hash_ is None else _digest_of(hash_),
        mask="SHA1" if mask is None else _digest_of(decode(AlgorithmIdentifier, mask.parameters_der or b"")),
    )


def _by_agreement(
    info: cms.KeyAgreeRecipientInfo, key: PrivateKey, originators: Sequence[bytes], limits: EnvelopeLimits
) -> bytes:
    scheme = info.key_encryption_algorithm.oid
    if scheme not in _STD_DH and scheme not in _HKDF_DH:
        raise BadMessage(FailureInfo.BAD_ALG, "a key agreement that is not supported")
    key_wrap = decode(AlgorithmIdentifier, info.key_encryption_algorithm.parameters_der or b"")
    if len(info.recipient_encrypted_keys) != 1 or (info.ukm is not None and len(info.ukm) > limits.max_salt_bytes):
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "not exactly one recipient")
    size = _wrap_size(key_wrap)
    kek = _agreed(agree(key, _origin(info, key, originators)), scheme, key_wrap, size, info.ukm, key.library)
    return unwrap_key(kek, info.recipient_encrypted_keys[0].encrypted_key, key.library)


def _origin(info: cms.KeyAgreeRecipientInfo, key: PrivateKey, originators: Sequence[bytes]) -> bytes:
    """SubjectPublicKeyInfo of the originator."""
    public = info.originator_key
    if public is not None:
        # Its parameters may be left out: they are those of the recipient's key (RFC 5753, 3.1.1).
        own = decode(SubjectPublicKeyInfo, key.public_key_der).algorithm
        if public.algorithm.oid != own.oid:
            raise BadMessage(FailureInfo.BAD_ALG, "a key of another kind for key agreement")
        return encode(SubjectPublicKeyInfo(algorithm=own, subject_public_key=public.public_key))
    wanted = der(info.originator)
    for certificate in originators:
        about = facts(certificate)
        names = [cms.issuer_and_serial(about.issuer, about.serial_number)]
        if about.key_id is not None:
            names.append(cms.key_identifier(about.key_id))
        if wanted in names:
            return about.spki
    raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, "the originator's certificate for key agreement is not there")


def _wrap_size(identifier: AlgorithmIdentifier) -> int:
    size = _WRAPS.get(identifier.oid)
    if size is None or identifier.parameters_der not in {None, _NULL}:
        raise BadMessage(FailureInfo.BAD_ALG, "a key wrap that is not supported")
    return size


def _by_encapsulation(info: cms.KEMRecipientInfo, key: PrivateKey, limits: EnvelopeLimits) -> bytes:
    size = _wrap_size(info.wrap)
    if info.kek_length != size or (info.ukm is not None and len(info.ukm) > limits.max_salt_bytes):
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a key length that does not fit the key wrap")
    own = decode(SubjectPublicKeyInfo, key.public_key_der).algorithm.oid
    if info.kem.oid != (oids.KEM_RSA if own == oids.RSA_ENCRYPTION else own):
        raise BadMessage(FailureInfo.BAD_ALG, "a key encapsulation for another kind of key")
    secret = decapsulate(key, info.kemct)
    if own == oids.RSA_ENCRYPTION:
        secret = shared_secret(secret, size, library=key.library)
    return unwrap_key(_encapsulated(secret, info, key.library), info.encrypted_key, key.library)


def _by_password(
    info: cms.PasswordRecipientInfo, password: bytes, limits: EnvelopeLimits, library: Library | None
) -> bytes:
    derivation, identifier = info.key_derivation_algorithm, info.key_encryption_algorithm
    if derivation is None or derivation.oid != oids.PBKDF2:
        raise BadMessage(FailureInfo.BAD_ALG, "a key derivation that is not supported")
    parameters = decode(PBKDF2Params, derivation.parameters_der or b"")
    prf = "SHA1" if parameters.prf is None else _PRFS.get(parameters.prf.oid)
    if prf is None or len(parameters.salt) > limits.max_salt_bytes:
        raise BadMessage(FailureInfo.BAD_ALG, "a key derivation that is not supported")
    if not 1 <= parameters.iteration_count <= limits.max_iterations:
        raise BadMessage(FailureInfo.BAD_ALG, "an iteration count that is out of bounds")
    cipher = None
    if identifier.oid == oids.PWRI_KEK:
        cipher = decode(AlgorithmIdentifier, identifier.parameters_der or b"")
        size = _CBCS.get(cipher.oid, 0)
    else:
        size = _wrap_size(identifier)
    if not size or parameters.key_length not in {None, size}:
        raise BadMessage(FailureInfo.BAD_ALG, "a key wrap that is not supported")
    kek = pbkdf2(prf, password, parameters.salt, parameters.iteration_count, size, library)
    if cipher is None:
        return unwrap_key(kek, info.encrypted_key, library)
    return _unwrap_with_password(kek, decode(bytes, cipher.parameters_der or b""), info.encrypted_key, library)


# -- signing -------------------------------------------------------------------------------------------------------


def sign_data(
    content_type: str,
    content: bytes,
    key: PrivateKey,
    certificate: bytes,
    chain: Sequence[bytes] = (),
    *,
    algorithm_der: bytes | None = None,
) -> bytes:
    """SignedData (a SEQUENCE in DER) with contentType and messageDigest as signed attributes.

    Args:
        content_type: what ``content`` is.
        certificate, chain: the signer's, DER.
        algorithm_der: AlgorithmIdentifier of the signature, by default what fits the key.

    Source: RFC 5652, 5; RFC 9483, 4.1.6; RFC 8933.
    """
    method = key.signature_algorithm() if algorithm_der is None else algorithm_der
    identifier = _digest_identifier(method)
    about = facts(certificate)
    attributes = cms.signed_attributes(content_type, _hash(identifier, content, key.library))
    signer = cms.SignerInfo(
        sid=cms.issuer_and_serial(about.issuer, about.serial_number)
        if about.key_id is None
        else cms.key_identifier(about.key_id),
        digest_algorithm=identifier,
        attributes=(),
        signed=attributes,
        signature_algorithm=decode(AlgorithmIdentifier, method),
        signature=key.sign(attributes, method),
    )
    return cms.SignedData(
        content_type=content_type, content=content, certificates=(certificate, *chain), signer=signer
    ).to_der()


def _digest_identifier(method: bytes) -> AlgorithmIdentifier:
    """The digest that goes with a signature algorithm: its own, or SHA-512 (RFC 8419, 3; RFC 9882, 3.3; RFC 9814, 4)."""
    about = signature_algorithm(method)
    if about.name == "id-Ed448":
        return algorithm(oids.SHAKE256_LEN, encode(512))
    name = about.digest or "SHA512"
    for oid, known in _SIGNED_DIGESTS.items():
        if known == name:
            return algorithm(oid)
    return algorithm(oids.SHA512 if name == "SHAKE256" else oids.SHA256)


def _hash(identifier: AlgorithmIdentifier, content: bytes, library: Library | None) -> bytes:
    if identifier.oid == oids.SHAKE256_LEN and identifier.parameters_der == encode(512):
        return hashlib.shake_256(content).digest(64)
    name = _SIGNED_DIGESTS.get(identifier.oid)
    if name is None or name == "SHA1" or identifier.parameters_der not in {None, _NULL}:
        raise BadMessage(FailureInfo.BAD_ALG, "a digest that is not supported")
    return digest(name, content, library)


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedData:
    """SignedData that verified.

    Attributes:
        content: what was signed.
        certificate: the signer's, DER.
        chain: verified path from it to an anchor, both included.
    """

    content: bytes = field(repr=False)
    certificate: bytes
    chain: tuple[bytes, ...]


def verify_signed_data(
    data: bytes,
    *,
    content_type: str,
    trust: Trust,
    untrusted: Sequence[bytes] = (),
    bounds: KeyBounds = DEFAULT_KEY_BOUNDS,
    at: datetime | float | None = None,
    max_bytes: int = 1 << 20,
) -> VerifiedData:
    """What is in SignedData, once its signature and the path of its signer are verified.

    Who may sign is for the caller to say, who finds the signer's certificate in the result.

    Args:
        data: a SEQUENCE in DER.
        content_type: what its content must be.
        trust: anchors.
        untrusted: intermediates besides those in ``data``.

    Raises:
        BadMessage: badDataFormat or badAlg, as it stands.
        ProtectionError: badMessageCheck when the signature does not verify, signerNotTrusted for its path.

    Source: RFC 5652, 5.4 and 5.6.
    """
    if len(data) > max_bytes:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "signed data that are too long")
    try:
        signed = cms.SignedData.from_der(data)
        signer = signed.signer
        said = signer.attribute(oids.CONTENT_TYPE)
        hashed = signer.attribute(oids.MESSAGE_DIGEST)
        if signed.content_type != content_type or said != encode(x509.ObjectIdentifier(content_type)):
            raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "signed data of another type")
        expected = _hash(signer.digest_algorithm, signed.content, trust.library)
        if hashed is None or decode(bytes, hashed) != expected:
            raise ProtectionError("the signed digest is not that of the content", FailureInfo.BAD_MESSAGE_CHECK)
        certificate = _signer_certificate(signer.sid, (*signed.certificates, *untrusted))
        method = _signature_method(signer)
    except (ValueError, OverflowError) as error:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, f"signed data that do not decode: {error}") from None
    verify_signature(
        facts(certificate).spki, method, signer.signed, signer.signature, bounds=bounds, library=trust.library
    )
    others = tuple(each for each in (*signed.certificates, *untrusted) if each != certificate)
    return VerifiedData(content=signed.content, certificate=certificate, chain=trust.path(certificate, others, at))


def _signer_certificate(sid: bytes, certificates: Iterable[bytes]) -> bytes:
    for certificate in certificates:
        about = facts(certificate)
        named = about.key_id is not None and sid == cms.key_identifier(about.key_id)
        if named or sid == cms.issuer_and_serial(about.issuer, about.serial_number):
            return certificate
    raise ProtectionError("the certificate of the signer is not there", FailureInfo.SIGNER_NOT_TRUSTED)


_RSA_WITH = {"SHA224": 14, "SHA256": 11, "SHA384": 12, "SHA512": 13}


def _signature_method(signer: cms.SignerInfo) -> bytes:
    """The AlgorithmIdentifier of the signature; rsaEncryption takes the digest of the content (RFC 3370, 3.2)."""
    if signer.signature_algorithm.oid != oids.RSA_ENCRYPTION:
        return der(signer.signature_algorithm)
    arc = _RSA_WITH.get(_SIGNED_DIGESTS.get(signer.digest_algorithm.oid, ""))
    if arc is None:
        raise BadMessage(FailureInfo.BAD_ALG, "an RSA signature over a hash that is not supported")
    return der(algorithm(f"1.2.840.113549.1.1.{arc}", _NULL))
