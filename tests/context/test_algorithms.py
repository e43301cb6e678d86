"""Every signature algorithm for message protection: ours against ``openssl`` in both directions, and what must not verify."""

import hashlib
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from opensslcmp._native import lib
from opensslcmp.asn1 import NULL_DN, algorithm, make_header, wrap
from opensslcmp.asn1 import der as encode
from opensslcmp.asn1.message import protected_part
from opensslcmp.context.keys import PrivateKey, signature_algorithm, verify_signature
from opensslcmp.credentials import Signer
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import ProtectionError
from tests.context.issuing import key


class Case(NamedTuple):
    kind: str
    digest: str | None = None
    pss: bool = False

    @property
    def new(self) -> bool:
        """Whether it takes OpenSSL 3.5."""
        return self.kind.startswith(("ml-", "slh-"))


def _id(case: Case) -> str:
    return "-".join(filter(None, (case.kind, case.digest, "pss" if case.pss else "")))


def _params(cases: list[Case]) -> list[object]:
    marks = {True: [pytest.mark.needs("3.5")], False: []}
    return [pytest.param(case, id=_id(case), marks=marks[case.new]) for case in cases]


SHA2 = ["SHA224", "SHA256", "SHA384", "SHA512"]
SHA3 = ["SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512"]
CURVES = ["P-224", "P-256", "P-384", "P-521"]
CURVES += [f"brainpoolP{bits}{form}1" for bits in (224, 256, 320, 384, 512) for form in "rt"]
# What `openssl dgst` and `openssl pkeyutl` make and check too.
COMMON = [
    *(Case(f"ec:{curve}") for curve in CURVES),
    *(Case("ec:P-256", digest) for digest in SHA2 + SHA3),
    *(Case("rsa:2048", digest) for digest in SHA2 + SHA3),
    *(Case("rsa:2048", digest, pss=True) for digest in SHA2 + SHA3),
    Case("rsa-pss:2048"),
    Case("ed25519"),
    Case("ed448"),
    *(Case(f"ml-dsa-{size}") for size in (44, 65, 87)),
    # The "s" sets take up to a second for each signature.
    *(
        Case(f"slh-dsa-{name}")
        for name in ("sha2-128s", "sha2-128f", "sha2-192f", "sha2-256f", "shake-128f", "shake-256f")
    ),
]
SHAKE = [Case("ec:P-256", "SHAKE128"), Case("ec:P-521", "SHAKE256"), Case("rsa:2048", "SHAKE128", pss=True)]
SHAKE += [Case("rsa:2048", "SHAKE256", pss=True), Case("rsa:3072", "SHAKE256")]


@cache
def _key(kind: str) -> PrivateKey:
    return _odd() if kind == "rsa:2049" else PrivateKey.generate(kind)


def _odd() -> PrivateKey:
    """An RSA key of 2049 bits, so that EM is an octet shorter than the modulus; OpenSSL makes even sizes only."""
    p, q = (rsa.generate_private_key(65537, bits).private_numbers().p for bits in (2050, 2048))
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
    )
    return PrivateKey.load(numbers.private_key())


@cache
def _part() -> bytes:
    """A ProtectedPart, as a message is signed."""
    header = make_header(sender=NULL_DN, recipient=NULL_DN, transaction_id=bytes(16), sender_nonce=bytes(16))
    return protected_part(encode(header), BodyType.PKICONF, b"\x05\x00")


def _openssl(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    tool = shutil.which("openssl")
    assert tool is not None
    return subprocess.run([tool, *arguments], capture_output=True, check=False)


def _how(case: Case) -> list[str]:
    """The command for this algorithm, up to sign or verify."""
    method = signature_algorithm(_key(case.kind).signature_algorithm(case.digest, case.pss))
    if method.digest is None:
        return ["pkeyutl", "-rawin"]
    options = (
        ["-sigopt", "rsa_padding_mode:pss", "-sigopt", f"rsa_pss_saltlen:{method.salt}"] if method.salt >= 0 else []
    )
    return ["dgst", f"-{method.digest.lower()}", *options]


@pytest.mark.parametrize("case", _params(COMMON))
def test_openssl_verifies_what_we_sign_over_a_protected_part(case: Case, tmp_path: Path) -> None:
    ours = _key(case.kind)
    part = _part()
    for name, data in (
        ("key", ours.public_key_der),
        ("part", part),
        ("other", part + b"!"),
        ("signature", ours.sign(part, ours.signature_algorithm(case.digest, case.pss))),
    ):
        (tmp_path / name).write_bytes(data)
    public = tmp_path / "key.pem"
    _openssl("pkey", "-pubin", "-inform", "DER", "-in", tmp_path / "key", "-pubout", "-out", public)
    command = _how(case)
    for name, good in (("part", True), ("other", False)):
        if command[0] == "dgst":
            rest = ["-verify", str(public), "-signature", str(tmp_path / "signature"), str(tmp_path / name)]
        else:
            rest = ["-verify", "-pubin", "-inkey", str(public), "-sigfile", str(tmp_path / "signature")]
            rest += ["-in", str(tmp_path / name)]
        done = _openssl(*command, *rest)
        assert (done.returncode == 0) is good, done.stderr


@pytest.mark.parametrize("case", _params(COMMON))
def test_we_verify_what_openssl_signs(case: Case, tmp_path: Path) -> None:
    ours = _key(case.kind)
    identifier = ours.signature_algorithm(case.digest, case.pss)
    (tmp_path / "key.pem").write_bytes(ours.to_pem())
    (tmp_path / "part").write_bytes(_part())
    command = _how(case)
    if command[0] == "dgst":
        rest = ["-sign", str(tmp_path / "key.pem"), "-out", str(tmp_path / "signature"), str(tmp_path / "part")]
    else:
        rest = ["-sign", "-inkey", str(tmp_path / "key.pem"), "-in", str(tmp_path / "part")]
        rest += ["-out", str(tmp_path / "signature")]
    done = _openssl(*command, *rest)
    assert done.returncode == 0, done.stderr
    signature = (tmp_path / "signature").read_bytes()
    verify_signature(ours.public_key_der, identifier, _part(), signature)
    _refused(ours, identifier, _part(), signature)


def _refused(ours: PrivateKey, identifier: bytes, data: bytes, signature: bytes) -> None:
    """Not over other data, not when damaged, not when cut, not with another key of the same kind."""
    other = data[:-1] + bytes((data[-1] ^ 1,))
    middle = len(signature) // 2
    for told, given in (
        (other, signature),
        (data, signature[:middle] + bytes((signature[middle] ^ 1,)) + signature[middle + 1 :]),
        (data, signature[:-1]),
        (data, signature + b"\0"),
        (data, b""),
    ):
        for keep in True, False:
            with pytest.raises(ProtectionError) as caught:
                verify_signature(ours.public_key_der, identifier, told, given, keep=keep)
            assert caught.value.failure is FailureInfo.BAD_MESSAGE_CHECK
            assert lib.ERR_peek_error() == 0


@pytest.mark.parametrize("case", _params(SHAKE))
def test_shake_signatures_verify_and_nothing_near_them(case: Case) -> None:
    ours = _key(case.kind)
    identifier = ours.signature_algorithm(case.digest, case.pss)
    signature = ours.sign(_part(), identifier)
    verify_signature(ours.public_key_der, identifier, _part(), signature)
    _refused(ours, identifier, _part(), signature)


def _emsa_pss_shake(bits: int, message: bytes, encoded: bytes, digest: str) -> bool:
    """EMSA-PSS-VERIFY (RFC 8017, 9.1.2) with SHAKE as hash and mask (RFC 8702, 3.2.1), written from the RFCs alone."""
    size = {"SHAKE128": 32, "SHAKE256": 64}[digest]

    def shake(data: bytes, length: int) -> bytes:
        return (hashlib.shake_128 if digest == "SHAKE128" else hashlib.shake_256)(data).digest(length)

    masked, value, trailer = encoded[: -size - 1], encoded[-size - 1 : -1], encoded[-1:]
    block = bytes(a ^ b for a, b in zip(masked, shake(value, len(masked)), strict=True))
    unused = 8 * len(encoded) - (bits - 1)
    block = bytes((block[0] & 0xFF >> unused,)) + block[1:]
    filler, salt = block[: len(block) - size], block[len(block) - size :]
    expected = shake(bytes(8) + shake(message, size) + salt, size)
    return trailer == b"\xbc" and filler == bytes(len(filler) - 1) + b"\1" and value == expected


@pytest.mark.parametrize("digest", ["SHAKE128", "SHAKE256"])
@pytest.mark.parametrize("bits", [2048, 2049, 2050, 2056, 3072])
def test_pss_with_shake_is_what_the_rfcs_say_for_any_size_of_key(bits: int, digest: str) -> None:
    ours = _key(f"rsa:{bits}")
    assert ours.bits == bits
    numbers = load_der_public_key(ours.public_key_der).public_numbers()  # type: ignore[union-attr]
    identifier = ours.signature_algorithm(digest)
    for message in b"", b"message":
        signature = ours.sign(message, identifier)
        raw = pow(int.from_bytes(signature, "big"), numbers.e, numbers.n)  # type: ignore[union-attr]
        assert _emsa_pss_shake(bits, message, raw.to_bytes((bits + 6) // 8, "big"), digest)
        verify_signature(ours.public_key_der, identifier, message, signature)
        _refused(ours, identifier, b"other", signature)
    assert ours.sign(b"", identifier) != ours.sign(b"", identifier), "a salt is drawn for each"


# From Project Wycheproof's rsa_pss_2048_shake128_test.json: key, then tests 4, 99 and 100.
MODULUS = (
    "00ac7ae7bde0bc9067fff5d5b4229350f8f6a1b285cda38b86ab61a54b02350889de49ff3ae1e243d380d4349ee3df2505d6041938fc270f8dcc"
    "265c5d022e3610d5f06ea2247e634b08d7aa3e24a347f6d61c127813e0302a5727c10292afa83b9775e5ba26d6b7ae217d05c469d193376d70ee"
    "92ff40f8424baaa4ded3814ac523016d8c7d7ccd1eec17459f3d2449f4cbfae3f2d51e506827282bde589a52e66320f54ca930a21f6aa7e3b0bc"
    "531ad1b568d7e32c0afed523ca6da62e5f22fed6f7ee722974b5f70aad710dcb14fa7a3c561b3d4c8696a455abe4cb9b351a6c0b6e478c60a81f"
    "02fb3a285245ebfe93221e36ad8787b3e7f3099d7c23225641"
)
VECTORS = {
    "valid": (
        "8bf7e923cea983e1dd1f7c29fe19827ac12e9698612eef28a657b27bef460caa21a7adce456dcc21cccb888e5e28e312584d26a05efa0c3e"
        "0568b4d9a2ea003f1212e5df64d31bb6c7d46771297f433148592b5bc931e55a00dc67efc51f32a35652d0606538cd2b1c7eec4a344e06d5"
        "09bbae282552ff18cf2a1bf6d11cddf2880b2515fec5edf440e90db258b2a43b5d63eb98c5a8a5988c26260ca2138305b385079aeebd1aef"
        "47672fc1e1b3f4bacca60792a26bf41af00adff3f32829739f0f8aceab82186852d848a3cad4897d58ab5156aff785d1544abd0bb41b5cdc"
        "09b7f0509a5195f58e4908ea3633a43c75eb882d02e933dc3f6c1441d766a964"
    ),
    "including garbage": (
        "9c6decddbc9a6bb69d282d1668dafef3c6affbf68ae3eacddaecf6071c96ab264da2b072dc1e32aa75275c0d08fccf106d99c2e538d19c9a"
        "fe6a992c665791a6a1a44dfa6f1c35189ad5f73f4c635369dcda470bf1c602960659e7dd61ec62dc5ef89f4555fd5eb7b580e7f7caea1a11"
        "3ffb2afc8421ba58306193e03a9a33f6cd7b3abdd3ec92c78651af08d2d0b95c8117392cd14dd97a05121187eeaed642ddd814ae79f9fa49"
        "b3609eea0dd97f19d5524ee0ae44cd3ac662cd3b08bb5ffe8c7f33c76ca13c7cfc1e7855c69e6a2b486649dd830ec6cd58810427a261cd61"
        "979464c5f31e8ce0c02df7956baef423ca04f243969f517bfb102b5baa1adb02"
    ),
    "bit 7 of masked_db not cleared": (
        "aa819ab9c9bbeb307cb5413b35faf2944b5f460317c6ce888251137c06f6bf55e006eea7736e04bbaba8097d24715e062c576c934429000d"
        "4a845001a89a195e6e6a20e094e1e7ff2395389d23f984ba2f9b4344c173931bf2679d1d6169d479fa5d0f8c06b381af9a981d135cbac436"
        "984b9d462c2889703a9dc4d60fbbebe13ef29cb7c83038f0893bb11db7850661a840034395f35efb18819ac26e1eee5713753b45e1314bca"
        "f2fb899675e284898b21f75459d7df8be44ff8f2fcfdf8a9974eb51d96c192eaa643bd3913485a41046046824a5a54979e86fa7bbc5d6777"
        "db42ae01d3775d30188f8866efd9f1fd55dd00510afe778f3acfb356a00ceb11"
    ),
    "signature is n-1": hex(int(MODULUS, 16) - 1)[2:],
    "signature is 1": "00" * 255 + "01",
}


@pytest.mark.parametrize("name", VECTORS)
def test_pss_with_shake_agrees_with_wycheproof(name: str) -> None:
    modulus = bytes.fromhex(MODULUS)
    numbers = wrap(0x30, wrap(0x02, modulus) + bytes.fromhex("0203010001"))
    spki = wrap(0x30, encode(algorithm("1.2.840.113549.1.1.1", b"\x05\x00")) + wrap(0x03, b"\0" + numbers))
    identifier = encode(algorithm("1.3.6.1.5.5.7.6.30"))
    given = (spki, identifier, b"123400", bytes.fromhex(VECTORS[name]))
    if name == "valid":
        verify_signature(*given)
        return
    with pytest.raises(ProtectionError) as caught:
        verify_signature(*given)
    assert caught.value.failure is FailureInfo.BAD_MESSAGE_CHECK
    assert lib.ERR_peek_error() == 0


def test_shake_with_an_rsa_key_is_always_pss() -> None:
    ours = PrivateKey.load(key("rsa"))
    for pss in True, False:
        method = signature_algorithm(ours.signature_algorithm("SHAKE256", pss))
        assert (method.name, method.salt) == ("id-RSASSA-PSS-SHAKE256", 64)
    with pytest.raises(ProtectionError) as caught:
        signature_algorithm(encode(algorithm("1.3.6.1.5.5.7.6.30", b"\x05\x00")))
    assert caught.value.failure is FailureInfo.BAD_ALG, "RFC 8702, 3: the parameters are absent"


def test_a_signer_says_that_it_wants_pss() -> None:
    from opensslcmp.context.protection import SignatureProtector
    from tests.context.issuing import device

    protector = SignatureProtector(Signer(device("rsa"), key("rsa"), digest="SHA384", pss=True))
    identifier, sign = protector.begin()
    method = signature_algorithm(identifier)
    assert (method.name, method.digest, method.salt) == ("id-RSASSA-PSS", "SHA384", 48)
    public = key("rsa").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    verify_signature(public, identifier, b"data", sign(b"data"))
