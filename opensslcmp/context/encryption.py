"""Keys that encrypt: key transport, key agreement, encapsulation, and what is derived and wrapped with their results.

Each function is one crossing. A private key stays where it is (a token as well as memory); a public one is its
SubjectPublicKeyInfo in bytes, read from its fixed DER shapes as for signatures. What a peer sent wrong is ``BadMessage``
(badMessageCheck, badAlg), always with the same words, whatever failed.
"""

from __future__ import annotations

import os
from typing import Any

from opensslcmp._native import ffi, lib
from opensslcmp._native.levels import has
from opensslcmp._native.queue import check, drain
from opensslcmp.asn1 import SubjectPublicKeyInfo, decode, der, oids
from opensslcmp.context.keys import DEFAULT_KEY_BOUNDS, KeyBounds, PrivateKey
from opensslcmp.context.library import Library, native
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage, OpenSSLError, Unsupported

__all__ = [
    "DOES_NOT_OPEN",
    "agree",
    "cbc",
    "decapsulate",
    "decrypt_key",
    "derive",
    "encapsulate",
    "encrypt_key",
    "key_type",
    "pbkdf2",
    "same_public_key",
    "shared_secret",
    "unwrap_key",
    "wrap_key",
]

_ML_KEM = {f"2.16.840.1.101.3.4.4.{number + 1}": number for number in range(3)}
_MAX_SECRET = 1024
_MAX_CIPHERTEXT = 2048


def key_type(spki: bytes) -> str:
    """What a SubjectPublicKeyInfo (DER) is for: ``RSA``, ``EC``, ``X25519``, ``X448``, ``ML-KEM``, or ``""`` for none of these.

    Raises:
        ValueError: it does not decode.
    """
    oid = decode(SubjectPublicKeyInfo, spki).algorithm.oid
    if oid in _ML_KEM:
        return "ML-KEM"
    names = {oids.RSA_ENCRYPTION: "RSA", oids.EC_PUBLIC_KEY: "EC", oids.X25519: "X25519", oids.X448: "X448"}
    return names.get(oid, "")


def _kind(spki: bytes) -> int:
    try:
        oid = decode(SubjectPublicKeyInfo, spki).algorithm.oid
    except ValueError:
        return 0
    kinds = {
        oids.RSA_ENCRYPTION: lib.OPENSSLCMP_KIND_RSA,
        oids.EC_PUBLIC_KEY: lib.OPENSSLCMP_KIND_EC,
        oids.X25519: lib.OPENSSLCMP_KIND_X25519,
        oids.X448: lib.OPENSSLCMP_KIND_X448,
    }
    return int(kinds[oid]) if oid in kinds else int(lib.OPENSSLCMP_KIND_ML_KEM) + _ML_KEM[oid] if oid in _ML_KEM else 0


def _name(text: str | None) -> Any:
    return ffi.NULL if text is None else text.encode()


def _refused(result: int, what: str) -> None:
    """Raise for a public key that a crossing did not take."""
    if result == 1:
        return
    drain()
    raise BadMessage(FailureInfo.BAD_ALG, f"a public key that cannot be used for {what}")


# -- RSA -----------------------------------------------------------------------------------------------------------


def encrypt_key(
    spki: bytes,
    key: bytes,
    *,
    oaep: str | None = "SHA256",
    mask: str | None = None,
    bounds: KeyBounds = DEFAULT_KEY_BOUNDS,
    library: Library | None = None,
) -> bytes:
    """``key`` encrypted to an RSA key.

    Args:
        oaep: hash of RSAES-OAEP; None for PKCS #1 v1.5.
        mask: hash of its mask, by default the same.

    Raises:
        BadMessage: badAlg, no RSA key within the bounds.

    Source: EVP_PKEY_encrypt(3); RFC 8017, 7.
    """
    out = ffi.new("unsigned char[]", _MAX_CIPHERTEXT)
    length = ffi.new("size_t *", _MAX_CIPHERTEXT)
    result = lib.opensslcmp_transport(
        native(library),
        spki,
        len(spki),
        bounds.min_rsa_bits,
        bounds.max_rsa_bits,
        _name(oaep),
        _name(mask or oaep),
        key,
        len(key),
        out,
        length,
    )
    _refused(result, "key transport")
    return bytes(ffi.buffer(out, length[0]))


def decrypt_key(key: PrivateKey, encrypted: bytes, size: int, *, oaep: str | None, mask: str | None = None) -> bytes:
    """What was encrypted to an RSA key, or ``size`` random bytes when it does not decrypt: nothing tells which.

    Raises:
        BadMessage: badAlg, the key does not decrypt at all.

    Source: EVP_PKEY_decrypt(3); RFC 3218, 2.3.2.
    """
    out = ffi.new("unsigned char[]", os.urandom(size))
    result = lib.opensslcmp_transported(
        native(key.library), key._ptr, _name(oaep), _name(mask or oaep), encrypted, len(encrypted), out, size
    )
    if result != 1:
        drain()
        raise BadMessage(FailureInfo.BAD_ALG, f"a key of type {key.key_type} does not decrypt")
    return bytes(ffi.buffer(out, size))


# -- key agreement and encapsulation -------------------------------------------------------------------------------


def agree(key: PrivateKey, spki: bytes) -> bytes:
    """The shared secret of a key and another's public one: the x-coordinate, or the output of X25519 and X448.

    Raises:
        BadMessage: badAlg, the two are not of one curve.

    Source: EVP_PKEY_derive(3).
    """
    out = ffi.new("unsigned char[]", 128)
    length = ffi.new("size_t *", 128)
    result = lib.opensslcmp_agree(native(key.library), key._ptr, spki, len(spki), _kind(spki), out, length)
    _refused(result, "key agreement with this key")
    return bytes(ffi.buffer(out, length[0]))


def encapsulate(
    spki: bytes, *, bounds: KeyBounds = DEFAULT_KEY_BOUNDS, library: Library | None = None
) -> tuple[bytes, bytes]:
    """Ciphertext and shared secret for the owner of an ML-KEM or RSA key.

    The secret of an RSA key is the raw integer of RSASVE: ``shared_secret`` makes RFC 9690's of it.

    Raises:
        BadMessage: badAlg, another kind of key.
        Unsupported: ML-KEM on an OpenSSL before 3.5.

    Source: EVP_PKEY_encapsulate(3); FIPS 203; RFC 9690, A.
    """
    kind = _kind(spki)
    if kind >= lib.OPENSSLCMP_KIND_ML_KEM and not has("3.5"):
        raise Unsupported("ML-KEM", "3.5")
    out = ffi.new("unsigned char[]", _MAX_CIPHERTEXT)
    secret = ffi.new("unsigned char[]", _MAX_SECRET)
    lengths = ffi.new("size_t[2]", [_MAX_CIPHERTEXT, _MAX_SECRET])
    result = lib.opensslcmp_encapsulate(
        native(library),
        spki,
        len(spki),
        kind,
        bounds.min_rsa_bits,
        bounds.max_rsa_bits,
        out,
        lengths,
        secret,
        lengths + 1,
    )
    _refused(result, "encapsulation")
    return bytes(ffi.buffer(out, lengths[0])), bytes(ffi.buffer(secret, lengths[1]))


def decapsulate(key: PrivateKey, ciphertext: bytes) -> bytes:
    """The shared secret in a ciphertext; as ``encapsulate``.

    Raises:
        BadMessage: badMessageCheck, it is none for this key.

    Source: EVP_PKEY_decapsulate(3).
    """
    secret = ffi.new("unsigned char[]", _MAX_SECRET)
    length = ffi.new("size_t *", _MAX_SECRET)
    result = lib.opensslcmp_decapsulate(native(key.library), key._ptr, ciphertext, len(ciphertext), secret, length)
    if result != 1:
        drain()
        raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, "a ciphertext that is none for this key")
    return bytes(ffi.buffer(secret, length[0]))


def shared_secret(raw: bytes, size: int, digest: str = "SHA256", library: Library | None = None) -> bytes:
    """The shared secret of RSA-KEM: KDF3 of the raw integer.

    Source: RFC 9690, A.1 and B.1.
    """
    return derive("KDF3", digest, raw, b"", size, library=library)


# -- derivation ----------------------------------------------------------------------------------------------------

# KDF2 of X9.44 is the KDF of X9.63; KDF3 is the one-step KDF of SP 800-56C (EVP_KDF-SS(7)).
_KDFS = {"HKDF": b"HKDF", "X963": b"X963KDF", "KDF2": b"X963KDF", "KDF3": b"SSKDF"}


def derive(
    name: str, digest: str, key: bytes, info: bytes, size: int, *, salt: bytes = b"", library: Library | None = None
) -> bytes:
    """A key of ``size`` bytes.

    Args:
        name: ``HKDF``, ``X963``, ``KDF2`` or ``KDF3``; only the first has a salt.

    Source: EVP_KDF_derive(3), EVP_KDF-HKDF(7), EVP_KDF-X963(7), EVP_KDF-SS(7).
    """
    out = ffi.new("unsigned char[]", size)
    check(
        lib.opensslcmp_kdf(
            native(library),
            _KDFS[name],
            digest.encode(),
            0,
            key,
            len(key),
            salt,
            len(salt),
            info,
            len(info),
            out,
            size,
        )
        == 1
    )
    return bytes(ffi.buffer(out))


def pbkdf2(
    digest: str, password: bytes, salt: bytes, iterations: int, size: int, library: Library | None = None
) -> bytes:
    """PBKDF2 with HMAC; whoever lets a peer choose the iterations bounds them.

    Source: EVP_KDF-PBKDF2(7); RFC 8018, 5.2.
    """
    out = ffi.new("unsigned char[]", size)
    check(
        lib.opensslcmp_kdf(
            native(library),
            b"PBKDF2",
            digest.encode(),
            iterations,
            password,
            len(password),
            salt,
            len(salt),
            b"",
            0,
            out,
            size,
        )
        == 1
    )
    return bytes(ffi.buffer(out))


# -- ciphers -------------------------------------------------------------------------------------------------------


def cbc(
    encrypting: bool, key: bytes, iv: bytes, data: bytes, *, padding: bool = True, library: Library | None = None
) -> bytes:
    """``data`` through AES-CBC; the size of ``key`` says which AES.

    Raises:
        BadMessage: badMessageCheck, it does not decrypt.
        ValueError: an initialization vector that is not 16 bytes.

    Source: EVP_CipherInit_ex2(3); RFC 3565, 2.3.
    """
    if len(iv) != 16:
        raise ValueError("an initialization vector that is not 16 bytes")
    return _cipher(f"AES-{8 * len(key)}-CBC", encrypting, padding, key, iv, data, library)


def wrap_key(kek: bytes, key: bytes, library: Library | None = None) -> bytes:
    """``key`` under AES key wrap.

    Source: RFC 3394; EVP_aes_256_wrap(3).
    """
    return _cipher(f"AES-{8 * len(kek)}-WRAP", True, False, kek, None, key, library)


def unwrap_key(kek: bytes, wrapped: bytes, library: Library | None = None) -> bytes:
    """What ``wrap_key`` wrapped.

    Raises:
        BadMessage: badMessageCheck, it was wrapped with another key or altered.

    Source: RFC 3394.
    """
    if len(wrapped) % 8 or not 24 <= len(wrapped) <= 80:
        raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, DOES_NOT_OPEN)
    return _cipher(f"AES-{8 * len(kek)}-WRAP", False, False, kek, None, wrapped, library)


DOES_NOT_OPEN = "the encrypted data do not open with this key"


def _cipher(
    name: str, encrypting: bool, padding: bool, key: bytes, iv: bytes | None, data: bytes, library: Library | None
) -> bytes:
    out = ffi.new("unsigned char[]", len(data) + 32)
    length = ffi.new("size_t *")
    result = lib.opensslcmp_cipher(
        native(library),
        name.encode(),
        encrypting,
        padding,
        key,
        len(key),
        ffi.NULL if iv is None else iv,
        data,
        len(data),
        out,
        length,
    )
    if result < 0:
        raise OpenSSLError(drain(), f"this OpenSSL has no {name}")
    if result == 0:
        raise BadMessage(FailureInfo.BAD_MESSAGE_CHECK, DOES_NOT_OPEN)
    return bytes(ffi.buffer(out, length[0]))


def same_public_key(key: PrivateKey, spki: bytes) -> bool:
    """Whether ``spki`` is the public key of ``key``, by its algorithm's number and its bits."""
    own, other = decode(SubjectPublicKeyInfo, key.public_key_der), decode(SubjectPublicKeyInfo, spki)
    return own.algorithm.oid == other.algorithm.oid and der(own.subject_public_key) == der(other.subject_public_key)
