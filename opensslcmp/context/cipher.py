"""Bytes at rest: AES-256-GCM by libcrypto, for secrets that a server keeps.

What is sealed is nonce (12 random bytes), ciphertext and tag (16 bytes), one after the other. A random nonce is good for
2^32 seals under one key (NIST SP 800-38D, 8.3).
"""

from opensslcmp._native import ffi, lib
from opensslcmp._native.queue import check, drain
from opensslcmp.errors import OpenSSLError

__all__ = ["KEY_BYTES", "seal", "unseal"]

KEY_BYTES = 32
_OVERHEAD = 28


def seal(key: bytes, plaintext: bytes, associated_data: bytes = b"") -> bytes:
    """``plaintext`` encrypted and authenticated, together with ``associated_data``, which is not part of the result.

    Raises:
        ValueError: ``key`` is not 32 bytes.

    Source: EVP_EncryptInit(3), AEAD interface.
    """
    _check_key(key)
    out = ffi.new("unsigned char[]", len(plaintext) + _OVERHEAD)
    check(lib.opensslcmp_seal(key, plaintext, len(plaintext), associated_data, len(associated_data), out) == 1)
    return bytes(ffi.buffer(out))


def unseal(key: bytes, sealed: bytes, associated_data: bytes = b"") -> bytes:
    """What was sealed with the same key and the same ``associated_data``.

    Raises:
        OpenSSLError: it was altered, cut, or sealed otherwise.
        ValueError: ``key`` is not 32 bytes.

    Source: EVP_EncryptInit(3), AEAD interface.
    """
    _check_key(key)
    out = ffi.new("unsigned char[]", max(len(sealed) - _OVERHEAD, 1))
    if lib.opensslcmp_unseal(key, sealed, len(sealed), associated_data, len(associated_data), out) != 1:
        raise OpenSSLError(drain(), "the sealed bytes do not open with this key")
    return bytes(ffi.buffer(out, len(sealed) - _OVERHEAD))


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise ValueError(f"the key must be {KEY_BYTES} bytes")
