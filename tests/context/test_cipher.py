import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from opensslcmp.context.cipher import seal, unseal
from opensslcmp.errors import OpenSSLError

KEY = bytes(range(32))


@pytest.mark.parametrize("plaintext", [b"", b"secret", bytes(100_000)])
@pytest.mark.parametrize("data", [b"", b"who it belongs to"])
def test_what_was_sealed_opens_with_the_same_key_and_data(plaintext: bytes, data: bytes) -> None:
    assert unseal(KEY, seal(KEY, plaintext, data), data) == plaintext


def test_the_same_bytes_are_sealed_differently_each_time() -> None:
    assert seal(KEY, b"secret") != seal(KEY, b"secret")


def test_another_library_reads_and_writes_the_same() -> None:
    sealed = seal(KEY, b"secret", b"data")
    assert AESGCM(KEY).decrypt(sealed[:12], sealed[12:], b"data") == b"secret"
    nonce = bytes(12)
    assert unseal(KEY, nonce + AESGCM(KEY).encrypt(nonce, b"other", b"data"), b"data") == b"other"


def test_a_flipped_bit_anywhere_does_not_open() -> None:
    sealed = seal(KEY, b"secret")
    for at in range(len(sealed)):
        with pytest.raises(OpenSSLError):
            unseal(KEY, sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :])


@pytest.mark.parametrize("sealed", [b"", b"short", bytes(28)])
def test_what_is_no_sealed_value_does_not_open(sealed: bytes) -> None:
    with pytest.raises(OpenSSLError):
        unseal(KEY, sealed)


def test_other_data_or_another_key_do_not_open() -> None:
    sealed = seal(KEY, b"secret", b"data")
    with pytest.raises(OpenSSLError):
        unseal(KEY, sealed, b"other")
    with pytest.raises(OpenSSLError):
        unseal(bytes(32), sealed, b"data")


def test_a_key_of_another_length_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        seal(b"short", b"secret")
    with pytest.raises(ValueError, match="32 bytes"):
        unseal(b"short", bytes(40))
