import pickle
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    pkcs12,
)

from opensslcmp._native import lib
from opensslcmp.asn1 import algorithm, wrap
from opensslcmp.asn1 import der as encode
from opensslcmp.context.keys import KeyBounds, PrivateKey, signature_algorithm, verify_signature
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import OpenSSLError, ProtectionError, Unsupported
from tests.context.issuing import device, key

KINDS = [
    "ec:P-256",
    "ec:P-384",
    "ec:P-521",
    "ec:brainpoolP256r1",
    "ec:brainpoolP384r1",
    "ec:brainpoolP512r1",
    "rsa:2048",
    "rsa-pss:2048",
    "ed25519",
    "ed448",
]
NULL = b"\x05\x00"


@pytest.fixture(scope="module", params=KINDS)
def any_key(request: pytest.FixtureRequest) -> PrivateKey:
    return PrivateKey.generate(request.param)


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def test_every_kind_of_key_signs_what_verifies(any_key: PrivateKey) -> None:
    identifier = any_key.signature_algorithm()
    for keep in False, True, True:
        signature = any_key.sign(b"data", identifier)
        verify_signature(any_key.public_key_der, identifier, b"data", signature, keep=keep)
        with pytest.raises(ProtectionError) as caught:
            verify_signature(any_key.public_key_der, identifier, b"other", signature, keep=keep)
        assert caught.value.failure is FailureInfo.BAD_MESSAGE_CHECK


@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa", "ed25519", "ed448"])
def test_another_library_verifies_our_signatures(kind: str) -> None:
    theirs = key(kind)
    ours = PrivateKey.load(theirs)
    public = load_der_public_key(ours.public_key_der)
    assert ours.public_key_der == theirs.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signature = ours.sign(b"data")
    if isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, b"data", ec.ECDSA(hashes.SHA256() if kind == "ec" else hashes.SHA384()))
    elif isinstance(public, rsa.RSAPublicKey):
        public.verify(signature, b"data", padding.PKCS1v15(), hashes.SHA256())
        pss = padding.PSS(padding.MGF1(hashes.SHA512()), 64)
        public.verify(ours.sign(b"data", ours.signature_algorithm("SHA512", pss=True)), b"data", pss, hashes.SHA512())
    else:
        assert isinstance(public, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
        public.verify(signature, b"data")


@pytest.mark.parametrize("digest", ["SHA224", "SHA256", "SHA384", "SHA512", "SHA3-224", "SHA3-256", "SHA3-512"])
@pytest.mark.parametrize(("kind", "pss"), [("ec", False), ("rsa", False), ("rsa", True)])
def test_digests_of_the_registry_work_with_ecdsa_and_rsa(kind: str, pss: bool, digest: str) -> None:
    ours = PrivateKey.load(key(kind))
    identifier = ours.signature_algorithm(digest, pss=pss)
    assert signature_algorithm(identifier).digest == digest
    verify_signature(ours.public_key_der, identifier, b"data", ours.sign(b"data", identifier))


@pytest.mark.parametrize(("digest", "size"), [("SHAKE128", 32), ("SHAKE256", 64)])
def test_ecdsa_with_shake_has_the_output_length_of_rfc_8692(digest: str, size: int) -> None:
    ours = PrivateKey.load(key("ec"))
    identifier = ours.signature_algorithm(digest)
    signature = ours.sign(b"data", identifier)
    verify_signature(ours.public_key_der, identifier, b"data", signature)
    shake = hashes.SHAKE128(size) if digest == "SHAKE128" else hashes.SHAKE256(size)
    context = hashes.Hash(shake)
    context.update(b"data")
    public = key("ec").public_key()
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    # Only the leftmost 32 bytes count on P-256, and SHA-256 is the hash of that size.
    public.verify(signature, context.finalize()[:32], ec.ECDSA(Prehashed(hashes.SHA256())))


def test_sha1_signatures_verify_only_where_they_are_allowed() -> None:
    ours = PrivateKey.load(key("rsa"))
    identifier = encode(algorithm("1.2.840.113549.1.1.5", NULL))
    signature = key("rsa").sign(b"data", padding.PKCS1v15(), hashes.SHA1())
    with pytest.raises(ProtectionError, match="too weak") as caught:
        verify_signature(ours.public_key_der, identifier, b"data", signature)
    assert caught.value.failure is FailureInfo.BAD_ALG
    verify_signature(ours.public_key_der, identifier, b"data", signature, allow_weak=True)


@pytest.mark.parametrize("parameters", [None, NULL])
def test_rsa_parameters_may_be_null_or_absent(parameters: bytes | None) -> None:
    ours = PrivateKey.load(key("rsa"))
    identifier = encode(algorithm("1.2.840.113549.1.1.11", parameters))
    verify_signature(ours.public_key_der, identifier, b"data", ours.sign(b"data"))


def _pss(
    hash_oid: str,
    mask_oid: str,
    salt: int,
    trailer: bytes = b"",
    *,
    mask_function: str = "1.2.840.113549.1.1.8",
    hash_parameters: bytes | None = None,
) -> bytes:
    hash_ = encode(algorithm(hash_oid, hash_parameters))
    mask = encode(algorithm(mask_function, encode(algorithm(mask_oid))))
    salt_der = b"\x02\x02" + salt.to_bytes(2, "big") if salt > 127 else b"\x02\x01" + bytes((salt,))
    fields = (b"\xa0", hash_), (b"\xa1", mask), (b"\xa2", salt_der)
    content = b"".join(tag + bytes((len(value),)) + value for tag, value in fields) + trailer
    return encode(algorithm("1.2.840.113549.1.1.10", b"\x30" + bytes((len(content),)) + content))


SHA256 = "2.16.840.1.101.3.4.2.1"
SHA512 = "2.16.840.1.101.3.4.2.3"


@pytest.mark.parametrize(
    "identifier",
    [
        pytest.param(_pss(SHA256, SHA512, 32), id="mask over another hash"),
        pytest.param(_pss(SHA256, SHA256, 33), id="salt longer than the hash"),
        pytest.param(_pss(SHA256, SHA256, 32, b"\xa3\x03\x02\x01\x02"), id="trailer"),
        pytest.param(_pss("1.2.3", "1.2.3", 32), id="unknown hash"),
        pytest.param(_pss(SHA256, SHA256, 32, mask_function="1.2.3"), id="unknown mask"),
        pytest.param(_pss(SHA256, SHA256, 32, hash_parameters=b"\x02\x01\x00"), id="hash with parameters"),
        pytest.param(encode(algorithm("1.2.840.113549.1.1.10")), id="no parameters"),
        pytest.param(encode(algorithm("1.2.840.113549.1.1.10", b"\x30\x03\x02\x01\x00")), id="nonsense"),
        pytest.param(encode(algorithm("1.2.840.10045.4.3.2", NULL)), id="ECDSA with parameters"),
        pytest.param(encode(algorithm("1.3.101.112", NULL)), id="Ed25519 with parameters"),
        pytest.param(encode(algorithm("1.2.840.10040.4.3")), id="DSA"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x30\x00", id="empty"),
    ],
)
def test_an_unusual_algorithm_is_bad_alg(identifier: bytes) -> None:
    with pytest.raises(ProtectionError) as caught:
        signature_algorithm(identifier)
    assert caught.value.failure is FailureInfo.BAD_ALG


def test_pss_without_parameters_in_its_sequence_means_sha1() -> None:
    method = signature_algorithm(encode(algorithm("1.2.840.113549.1.1.10", b"\x30\x00")))
    assert (method.digest, method.salt, method.weak) == ("SHA1", 20, True)


def test_a_short_pss_salt_verifies() -> None:
    ours = PrivateKey.load(key("rsa"))
    signature = key("rsa").sign(b"data", padding.PSS(padding.MGF1(hashes.SHA256()), 24), hashes.SHA256())
    verify_signature(ours.public_key_der, _pss(SHA256, SHA256, 24), b"data", signature)
    with pytest.raises(ProtectionError):
        verify_signature(ours.public_key_der, _pss(SHA256, SHA256, 25), b"data", signature)


def test_an_algorithm_for_another_kind_of_key_is_bad_alg() -> None:
    keys = {kind: PrivateKey.load(key(kind)) for kind in ("ec", "rsa", "ed25519", "ed448")}
    for one in keys.values():
        signature = one.sign(b"data")
        verify_signature(one.public_key_der, one.signature_algorithm(), b"data", signature)
        for other in keys.values():
            if other is one:
                continue
            for keep in True, False:
                with pytest.raises(ProtectionError) as caught:
                    verify_signature(one.public_key_der, other.signature_algorithm(), b"data", signature, keep=keep)
                assert caught.value.failure is FailureInfo.BAD_ALG
            with pytest.raises(ProtectionError):
                one.sign(b"data", other.signature_algorithm())


@pytest.mark.parametrize("keep", [True, False])
def test_rsa_keys_out_of_bounds_are_bad_alg(keep: bool) -> None:
    small = PrivateKey.load(key("rsa1024"))
    signature = small.sign(b"data")
    identifier = small.signature_algorithm()
    for bounds in KeyBounds(), KeyBounds(1025), KeyBounds(512, 1023):
        with pytest.raises(ProtectionError) as caught:
            verify_signature(small.public_key_der, identifier, b"data", signature, bounds=bounds, keep=keep)
        assert caught.value.failure is FailureInfo.BAD_ALG
    for _ in range(2):
        verify_signature(small.public_key_der, identifier, b"data", signature, bounds=KeyBounds(1024, 1024), keep=keep)
    with pytest.raises(ProtectionError):
        verify_signature(small.public_key_der, identifier, b"data", signature, keep=keep)


def test_a_huge_rsa_exponent_is_refused_before_any_arithmetic() -> None:
    modulus = (1 << 2047) + 1
    exponent = (1 << 100) + 1
    numbers = b"".join(
        b"\x02" + length + value.to_bytes(size, "big")
        for value, size, length in ((modulus, 257, b"\x82\x01\x01"), (exponent, 13, b"\x0d"))
    )
    sequence = b"\x30\x82" + len(numbers).to_bytes(2, "big") + numbers
    bits = b"\x03\x82" + (len(sequence) + 1).to_bytes(2, "big") + b"\0" + sequence
    head = encode(algorithm("1.2.840.113549.1.1.1", NULL))
    spki = b"\x30\x82" + (len(head) + len(bits)).to_bytes(2, "big") + head + bits
    with pytest.raises(ProtectionError) as caught:
        verify_signature(spki, encode(algorithm("1.2.840.113549.1.1.11", NULL)), b"data", bytes(256))
    assert caught.value.failure is FailureInfo.BAD_ALG


def test_keys_outside_the_list_are_refused() -> None:
    identifier = PrivateKey.load(key("ec")).signature_algorithm()
    for other in (dsa.generate_private_key(1024), ec.generate_private_key(ec.SECP192R1())):
        spki = other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(ProtectionError) as caught:
            verify_signature(spki, identifier, b"data", b"signature")
        assert caught.value.failure is FailureInfo.BAD_ALG


def test_a_damaged_public_key_never_crashes() -> None:
    for kind in "ec", "rsa", "ed25519":
        ours = PrivateKey.load(key(kind))
        spki, identifier, signature = ours.public_key_der, ours.signature_algorithm(), ours.sign(b"data")
        for at in range(len(spki)):
            for damaged in _flip(spki, at), spki[:at], spki + bytes(1):
                with pytest.raises(ProtectionError):
                    verify_signature(damaged, identifier, b"data", signature, keep=bool(at % 2))


@pytest.mark.parametrize("bits", ["", "0402aabb", "0300", "030100", "03020100", "0382ffff00", "03020000"])
@pytest.mark.parametrize("keep", [True, False])
def test_a_key_of_rsassa_pss_without_its_bits_is_bad_alg(bits: str, keep: bool) -> None:
    """Anyone may send such a key, in the certificate of a message or in a request."""
    identifier = PrivateKey.generate("rsa-pss:2048").signature_algorithm()
    spki = wrap(0x30, identifier + bytes.fromhex(bits))
    with pytest.raises(ProtectionError) as caught:
        verify_signature(spki, identifier, b"data", bytes(256), keep=keep)
    assert caught.value.failure is FailureInfo.BAD_ALG


def test_the_table_of_known_keys_stays_right_when_keys_push_each_other_out() -> None:
    # Many more keys than it has places.
    keys = [PrivateKey.generate("ed25519") for _ in range(1200)]
    identifier = keys[0].signature_algorithm()
    for _ in range(2):
        for one in keys:
            verify_signature(one.public_key_der, identifier, b"data", one.sign(b"data"))


@pytest.mark.parametrize("curve", ["P-256", "P-384", "brainpoolP256r1"])
def test_what_is_no_point_of_the_curve_verifies_nothing(curve: str) -> None:
    ours = PrivateKey.generate(f"ec:{curve}")
    spki, signature = ours.public_key_der, ours.sign(b"data")
    size = (len(spki) - spki.index(b"\x00\x04")) // 2 - 1
    wrong = [
        spki[:-1] + bytes([spki[-1] ^ 1]),  # off the curve
        spki[: -2 * size] + b"\xff" * (2 * size),  # outside the field
        spki[: -2 * size - 1] + b"\x05" + spki[-2 * size :],  # no form of a point
    ]
    for each in wrong * 2:
        with pytest.raises(ProtectionError):
            verify_signature(each, ours.signature_algorithm(), b"data", signature, keep=False)
        assert lib.ERR_peek_error() == 0
    verify_signature(spki, ours.signature_algorithm(), b"data", signature, keep=False)


def test_a_compressed_point_verifies() -> None:
    private = key("ec")
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    head = PrivateKey.load(private).public_key_der[2:23]
    bits = b"\x03" + bytes((len(point) + 1,)) + b"\0" + point
    spki = b"\x30" + bytes((len(head) + len(bits),)) + head + bits
    ours = PrivateKey.load(private)
    verify_signature(spki, ours.signature_algorithm(), b"data", ours.sign(b"data"))


# -- loading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("password", [None, b"correct horse"])
def test_a_key_loads_from_bytes_path_and_uri(
    kind: str, encoding: Encoding, password: bytes | None, tmp_path: Path
) -> None:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    data = key(kind).private_bytes(encoding, PrivateFormat.PKCS8, encryption)
    path = tmp_path / "a key"
    path.write_bytes(data)
    public = PrivateKey.load(key(kind)).public_key_der
    uri = path.as_uri().replace("%20", " ")
    for source in data, bytearray(data), path, str(path), uri:
        assert PrivateKey.load(source, password).public_key_der == public


def test_traditional_forms_load() -> None:
    for kind in "ec", "rsa":
        data = key(kind).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        assert PrivateKey.load(data).public_key_der == PrivateKey.load(key(kind)).public_key_der


def test_pem_as_text_loads_and_never_ends_up_in_an_exception() -> None:
    text = PrivateKey.load(key()).to_pem().decode()
    assert PrivateKey.load(text).bits == 256
    with pytest.raises(OpenSSLError) as caught:
        PrivateKey.load(text.replace("PRIVATE KEY", "SOMETHING"))
    assert text.splitlines()[1] not in str(caught.value)


def test_curve_parameters_before_the_key_do_no_harm() -> None:
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert PrivateKey.load(parameters + PrivateKey.load(key()).to_pem()).bits == 256


def test_a_pin_in_a_uri_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(OpenSSLError) as caught:
        PrivateKey.load(f"file:{tmp_path}/none?pin-value=4711")
    assert "4711" not in str(caught.value)


def test_a_key_loads_from_pkcs12(tmp_path: Path) -> None:
    data = pkcs12.serialize_key_and_certificates(
        b"name", key("ec"), device("ec"), None, BestAvailableEncryption(b"correct horse")
    )
    path = tmp_path / "key.p12"
    path.write_bytes(data)
    for source in data, path:
        assert PrivateKey.load(source, "correct horse").public_key_der == PrivateKey.load(key("ec")).public_key_der


def test_a_loaded_key_loads_as_itself() -> None:
    ours = PrivateKey.load(key("ec"))
    assert PrivateKey.load(ours) is ours


@pytest.mark.parametrize("password", [None, b"wrong guess", "wrong guess"])
def test_a_wrong_password_fails_without_telling_it(password: bytes | str | None) -> None:
    data = key("ec").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"correct horse"))
    with pytest.raises(OpenSSLError, match="wrong or missing password") as caught:
        PrivateKey.load(data, password)
    assert "guess" not in str(caught.value)
    assert "horse" not in str(caught.value)
    assert lib.ERR_peek_error() == 0


@pytest.mark.parametrize("data", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_does_not_load(data: bytes) -> None:
    with pytest.raises(OpenSSLError):
        PrivateKey.load(data)
    assert lib.ERR_peek_error() == 0


def test_a_certificate_is_no_private_key() -> None:
    with pytest.raises(OpenSSLError, match="no private key"):
        PrivateKey.load(device("ec").public_bytes(Encoding.PEM))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PrivateKey.load(tmp_path / "missing")
    with pytest.raises(OpenSSLError):
        PrivateKey.load((tmp_path / "missing").as_uri())
    with pytest.raises(TypeError, match="not a source"):
        PrivateKey.load(17)


@pytest.mark.parametrize("password", [None, "correct horse"])
def test_a_key_leaves_as_pem_and_comes_back(any_key: PrivateKey, password: str | None) -> None:
    pem = any_key.to_pem(password)
    assert pem.startswith(b"-----BEGIN ENCRYPTED" if password else b"-----BEGIN PRIVATE")
    assert PrivateKey.load(pem, password).public_key_der == any_key.public_key_der
    load_pem_private_key(pem, None if password is None else password.encode())


def test_repr_and_pickle_give_nothing_away() -> None:
    ours = PrivateKey.load(key("ec"))
    assert repr(ours) == "<PrivateKey EC 256 bits>"
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(ours)


@pytest.mark.parametrize("kind", ["ec:P-42", "rsa:1024", "rsa:100000", "dsa", "ed25519:7", "ec:"])
def test_a_kind_that_does_not_exist_is_the_callers_mistake(kind: str) -> None:
    if kind == "ec:":
        assert PrivateKey.generate(kind).bits == 256
        return
    with pytest.raises(ValueError, match=r"no such|must have"):
        PrivateKey.generate(kind)


@pytest.mark.parametrize(
    ("kind", "digest", "pss"),
    [("ec", "MD4", False), ("ec", None, True), ("rsa", "MD4", True), ("ed25519", "SHA256", False)],
)
def test_a_digest_that_does_not_fit_is_the_callers_mistake(kind: str, digest: str | None, pss: bool) -> None:
    with pytest.raises(ValueError, match="does not sign"):
        PrivateKey.load(key(kind)).signature_algorithm(digest, pss=pss)


@pytest.mark.needs("3.5")
@pytest.mark.parametrize("kind", ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
def test_ml_dsa_signs_and_verifies(kind: str) -> None:
    ours = PrivateKey.generate(kind)
    for keep in True, False:
        verify_signature(ours.public_key_der, ours.signature_algorithm(), b"data", ours.sign(b"data"), keep=keep)


@pytest.mark.skipif(lib.OPENSSLCMP_LEVEL >= 35, reason="this OpenSSL has ML-DSA")
def test_ml_dsa_on_an_older_library_says_which_one_has_it() -> None:
    with pytest.raises(Unsupported) as caught:
        PrivateKey.generate("ml-dsa-65")
    assert caught.value.since == "3.5"
    assert lib.ERR_peek_error() == 0
