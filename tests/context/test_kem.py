"""Key encapsulation and the MACs under what it establishes."""

import base64
import dataclasses
import hashlib
import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from opensslcmp import KemCredential, PrivateKey, ProtectionKind, Unsupported
from opensslcmp._native.levels import has
from opensslcmp.asn1 import (
    KemBMParameter,
    KemCiphertextInfo,
    KemOtherInfo,
    Message,
    SubjectPublicKeyInfo,
    admit,
    algorithm,
    decode,
    der,
    oids,
)
from opensslcmp.context.kem import KemProtector, KemSecret, decapsulate, derive, encapsulate, is_kem_key, verify_kem
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import ProtectionError
from tests.context.issuing import certificate, key, message
from tests.context.rfc9690 import CIPHERTEXT, KEK, OTHER_INFO, PRIVATE_KEY, SHARED_SECRET, Z

KDF3 = algorithm(oids.KDF3, der(algorithm(oids.SHA256)))
TRANSACTION = b"sixteen bytes id"


def test_rsa_kem_gives_the_secret_of_the_rfcs_example() -> None:
    own = PrivateKey.load(base64.b64decode(PRIVATE_KEY))
    kem = algorithm(oids.KEM_RSA, bytes.fromhex("301e3019060a2b8105108648092c0102300b0609608648016503040201020110"))
    assert decapsulate(own, KemCiphertextInfo(kem=kem, ct=CIPHERTEXT)) == SHARED_SECRET
    assert derive(KDF3, Z, 16) == SHARED_SECRET
    assert derive(KDF3, SHARED_SECRET, 16, OTHER_INFO) == KEK


def test_rsa_kem_without_parameters_is_kdf3_with_sha256_and_32_bytes() -> None:
    own = PrivateKey.load(base64.b64decode(PRIVATE_KEY))
    found = decapsulate(own, KemCiphertextInfo(kem=algorithm(oids.KEM_RSA), ct=CIPHERTEXT))
    assert found == derive(KDF3, Z, 32)
    assert found[:16] == SHARED_SECRET


@pytest.mark.parametrize("bits", [2048, 3072])
def test_what_is_encapsulated_to_an_rsa_key_is_decapsulated_with_it(bits: int) -> None:
    own = PrivateKey.generate(f"rsa:{bits}")
    info, secret = encapsulate(own.public_key_der)
    assert (info.kem.oid, len(info.ct), len(secret)) == (oids.KEM_RSA, bits // 8, 32)
    assert decapsulate(own, info) == secret


def test_rsvse_is_plain_rsa_of_a_number_as_another_library_computes_it() -> None:
    other = rsa.generate_private_key(65537, 2048)
    own = PrivateKey.load(other)
    info, secret = encapsulate(own.public_key_der)
    numbers = other.private_numbers()
    z = pow(int.from_bytes(info.ct, "big"), numbers.d, numbers.public_numbers.n).to_bytes(256, "big")
    assert hashlib.sha256(b"\0\0\0\1" + z).digest() == secret


@pytest.mark.needs("3.5")
@pytest.mark.parametrize(("kind", "size"), [("ml-kem-512", 768), ("ml-kem-768", 1088), ("ml-kem-1024", 1568)])
def test_what_is_encapsulated_to_an_ml_kem_key_is_decapsulated_with_it(kind: str, size: int) -> None:
    own = PrivateKey.generate(kind)
    info, secret = encapsulate(own.public_key_der)
    assert (info.kem.parameters, len(info.ct), len(secret)) == (None, size, 32)
    assert info.kem == decode(SubjectPublicKeyInfo, own.public_key_der).algorithm
    assert decapsulate(own, info) == secret
    other = dataclasses.replace(info, ct=bytes(size))
    assert decapsulate(own, other) != secret  # implicit rejection: another secret, no error


@pytest.mark.skipif(has("3.5"), reason="it has ML-KEM")
def test_ml_kem_keys_say_which_openssl_they_need() -> None:
    with pytest.raises(Unsupported) as caught:
        PrivateKey.generate("ml-kem-768")
    assert caught.value.since == "3.5"
    spki = SubjectPublicKeyInfo(
        algorithm=algorithm(oids.ML_KEM_768),
        subject_public_key=decode(
            SubjectPublicKeyInfo, PrivateKey.generate("x25519").public_key_der
        ).subject_public_key,
    )
    with pytest.raises(ProtectionError) as refused:
        encapsulate(der(spki))
    assert refused.value.failure is FailureInfo.BAD_ALG


@pytest.mark.parametrize("kind", ["ec:P-256", "ed25519", "x25519"])
def test_other_keys_are_of_no_kem(kind: str) -> None:
    own = PrivateKey.generate(kind)
    assert not is_kem_key(own.public_key_der)
    with pytest.raises(ProtectionError, match="nothing can be encapsulated to") as caught:
        encapsulate(own.public_key_der)
    assert caught.value.failure is FailureInfo.BAD_ALG


def test_an_rsa_key_for_rsa_kem_only_is_known_by_its_own_identifier() -> None:
    own = PrivateKey.generate("rsa:2048")
    bits = decode(SubjectPublicKeyInfo, own.public_key_der).subject_public_key
    only = der(SubjectPublicKeyInfo(algorithm=algorithm(oids.RSA_KEM_SPKI), subject_public_key=bits))
    assert is_kem_key(only)
    info, secret = encapsulate(only)
    assert decapsulate(own, info) == secret


@pytest.mark.parametrize("ct", [b"", bytes(255), bytes(257), b"\xff" * 256])
def test_a_ciphertext_that_does_not_fit_is_bad_message_check(ct: bytes) -> None:
    own = PrivateKey.load(key("rsa"))
    with pytest.raises(ProtectionError) as caught:
        decapsulate(own, KemCiphertextInfo(kem=algorithm(oids.KEM_RSA), ct=ct))
    assert caught.value.failure is FailureInfo.BAD_MESSAGE_CHECK


def test_a_ciphertext_for_another_kind_of_key_is_bad_message_check() -> None:
    own = PrivateKey.load(key("rsa"))
    with pytest.raises(ProtectionError, match="another kind") as caught:
        decapsulate(own, KemCiphertextInfo(kem=algorithm(oids.ML_KEM_768), ct=bytes(1088)))
    assert caught.value.failure is FailureInfo.BAD_MESSAGE_CHECK


def test_keys_are_derived_as_another_library_does() -> None:
    secret, info = bytes(range(32)), b"who asks"
    for oid, digest in (
        (oids.HKDF_SHA256, hashes.SHA256()),
        (oids.HKDF_SHA384, hashes.SHA384()),
        (oids.HKDF_SHA512, hashes.SHA512()),
    ):
        assert derive(algorithm(oid), secret, 40, info) == HKDF(digest, 40, None, info).derive(secret)
    kdf2 = algorithm(oids.KDF2, der(algorithm(oids.SHA256, b"\x05\x00")))
    assert derive(kdf2, secret, 40, info) == X963KDF(hashes.SHA256(), 40, info).derive(secret)
    blocks = [hashlib.sha256(bytes((0, 0, 0, n)) + secret + info).digest() for n in (1, 2)]
    assert derive(KDF3, secret, 40, info) == b"".join(blocks)[:40]


@pytest.mark.parametrize(
    "kdf",
    [
        algorithm(oids.PBKDF2),
        algorithm(oids.KDF3),
        algorithm(oids.KDF3, der(algorithm(oids.SHA1))),
        algorithm(oids.HKDF_SHA256, b"\x05\x00"),
    ],
)
def test_another_derivation_is_bad_alg(kdf: Any) -> None:
    with pytest.raises(ProtectionError) as caught:
        derive(kdf, bytes(32), 32)
    assert caught.value.failure is FailureInfo.BAD_ALG


# -- messages --------------------------------------------------------------------------------------------------------


def protector(**choice: str) -> KemProtector:
    held = key("rsa")
    issued = certificate("kem", held, "ca", key("ec"), usage="key_encipherment")
    return KemProtector(KemCredential(issued, held, **choice))


def protected(own: KemProtector) -> tuple[Message, KemSecret]:
    info, secret = encapsulate(own.key.public_key_der)
    bound = own.of_one_transaction(info, TRANSACTION)
    return admit(message(bound)), KemSecret(secret, TRANSACTION, own.certificates)


@pytest.mark.parametrize("kdf", ["hkdf-sha256", "hkdf-sha384", "hkdf-sha512", "kdf3-sha256"])
@pytest.mark.parametrize("mac", ["hmac-sha256", "hmac-sha384", "hmac-sha512", "kmac128", "kmac256"])
def test_a_message_verifies_with_the_secret_that_was_encapsulated(kdf: str, mac: str) -> None:
    own = protector(kdf=kdf, mac=mac)
    sent, secret = protected(own)
    verified = verify_kem(sent, secret)
    assert (verified.kind, verified.certificate) == (ProtectionKind.KEM, own.certificates[0])
    assert verified.algorithm == "id-KemBasedMac"
    assert verified.identity == own.identity
    with pytest.raises(ProtectionError) as caught:
        verify_kem(sent, dataclasses.replace(secret, secret=bytes(32)))
    assert caught.value.failure is FailureInfo.BAD_MESSAGE_CHECK
    with pytest.raises(ProtectionError):
        verify_kem(sent, dataclasses.replace(secret, transaction_id=b"another transaction"))


def test_the_mac_is_what_the_rfc_says_byte_for_byte() -> None:
    sent, secret = protected(protector())
    info = der(KemOtherInfo(static_string=["CMP-KEM"], transaction_id=TRANSACTION))
    assert info == bytes.fromhex("301d30090c07434d502d4b454d0410") + TRANSACTION
    mac_key = HKDF(hashes.SHA256(), 32, None, info).derive(secret.secret)
    assert sent.protection == hmac.digest(mac_key, sent.protected_part, "sha256")
    assert isinstance(sent.mac, KemBMParameter)
    assert (sent.mac.len, sent.mac.kem_context) == (32, None)


def test_kem_context_is_bound_into_the_key() -> None:
    _, secret = protected(protector())
    parameters = KemBMParameter(kdf=algorithm(oids.HKDF_SHA256), len=32, mac=algorithm(oids.HMAC_SHA256))
    other = dataclasses.replace(parameters, kem_context=b"ukm")
    info = KemOtherInfo(static_string=["CMP-KEM"], transaction_id=TRANSACTION, kem_context=b"ukm")
    assert secret.key(other) == HKDF(hashes.SHA256(), 32, None, der(info)).derive(secret.secret)
    assert secret.key(other) != secret.key(parameters)


@pytest.mark.parametrize("length", [1, 15, 65, 200])
def test_a_mac_key_that_could_be_guessed_is_bad_alg(length: int) -> None:
    _, secret = protected(protector())
    parameters = KemBMParameter(kdf=algorithm(oids.HKDF_SHA256), len=length, mac=algorithm(oids.HMAC_SHA256))
    with pytest.raises(ProtectionError) as caught:
        secret.key(parameters)
    assert caught.value.failure is FailureInfo.BAD_ALG


def test_a_protector_without_a_ciphertext_protects_nothing() -> None:
    with pytest.raises(ValueError, match="not encapsulated"):
        message(protector())


def test_a_credential_must_be_of_one_key_and_of_a_kem() -> None:
    issued = certificate("kem", key("rsa"), "ca", key("ec"), usage="key_encipherment")
    with pytest.raises(ValueError, match="not the certificate's"):
        KemProtector(KemCredential(issued, key("rsa", 1)))
    with pytest.raises(ValueError, match="of no KEM"):
        KemProtector(KemCredential(certificate("ec", key("ec"), "ca", key("ec", 1)), key("ec")))
    with pytest.raises(ValueError, match="no such KEM-based MAC"):
        KemProtector(KemCredential(issued, key("rsa"), mac="md5"))


def test_reprs_show_no_secret() -> None:
    own = protector()
    _, secret = protected(own)
    assert repr(secret.secret) not in repr(secret)
    assert repr(own) == "<KemProtector <PrivateKey RSA 2048 bits>>"
