"""EnvelopedData and SignedData, with ``openssl cms`` as the other end in both directions."""

import contextlib
import dataclasses
import datetime
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from opensslcmp._native.levels import has
from opensslcmp.asn1 import NULL_DN, algorithm, cms, decode, elements, encode, oids, tlv, unwrap, wrap
from opensslcmp.context.certificates import Trust
from opensslcmp.context.cms import (
    EnvelopeLimits,
    Originator,
    PasswordRecipient,
    Recipient,
    open_enveloped,
    seal,
    sign_data,
    verify_signed_data,
)
from opensslcmp.context.encryption import encrypt_key
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage, ProtectionError, Unsupported
from tests.context import issuing

CONTENT = b"what nobody else is to read " * 20
KINDS = ("rsa", "ec", "ec384", "ec521", "brainpool", "x25519", "x448")


@cache
def party(kind: str, key_id: bool = True) -> tuple[Any, bytes]:
    """A private key and a certificate (DER) for it."""
    key: Any
    match kind:
        case "ec521":
            key = ec.generate_private_key(ec.SECP521R1())
        case "brainpool":
            key = ec.generate_private_key(ec.BrainpoolP256R1())
        case "x25519":
            key = x25519.X25519PrivateKey.generate()
        case "x448":
            key = x448.X448PrivateKey.generate()
        case _:
            key = issuing.key(kind)
    made = issuing.certificate(
        kind, key, "intermediate", issuing.INTER_KEY, key_id=key_id, usage=None if kind[0] == "x" else "key_agreement"
    )
    return key, issuing.der(made)


def ours(kind: str) -> PrivateKey:
    return PrivateKey.load(party(kind)[0])


def run(directory: Path, *arguments: str, data: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", "cms", *arguments], cwd=directory, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def files(directory: Path, kind: str) -> None:
    key, certificate = party(kind)
    (directory / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (directory / "cert.pem").write_bytes(x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM))


def content_info(enveloped: bytes, kind: str = oids.CT_ENVELOPED_DATA) -> bytes:
    return wrap(0x30, encode(x509.ObjectIdentifier(kind)) + wrap(0xA0, enveloped))


def inside(info: bytes) -> bytes:
    """What a ContentInfo holds."""
    _, (start, end) = elements(info)
    return unwrap(info[start:end])


# -- both our ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key_id", [True, False])
def test_what_is_sealed_for_a_key_opens_with_it(kind: str, key_id: bool) -> None:
    key, certificate = party(kind, key_id)
    sealed = seal(CONTENT, Recipient.of(certificate), content_type=oids.CT_SIGNED_DATA)
    assert CONTENT not in sealed
    assert open_enveloped(sealed, PrivateKey.load(key), content_type=oids.CT_SIGNED_DATA) == CONTENT


@pytest.mark.parametrize("rsa_", ["oaep", "pkcs1", "kem"])
def test_every_way_for_an_rsa_key(rsa_: Literal["oaep", "pkcs1", "kem"]) -> None:
    sealed = seal(CONTENT, Recipient.of(party("rsa")[1], rsa_))
    assert open_enveloped(sealed, ours("rsa")) == CONTENT


@pytest.mark.needs("3.5")
@pytest.mark.parametrize("size", [512, 768, 1024])
def test_ml_kem(size: int) -> None:
    key = PrivateKey.generate(f"ml-kem-{size}")
    sealed = seal(CONTENT, Recipient(spki=key.public_key_der, serial_number=7))
    assert open_enveloped(sealed, key) == CONTENT


def test_ml_kem_says_what_it_needs_on_an_older_openssl() -> None:
    spki = wrap(0x30, encode(algorithm("2.16.840.1.101.3.4.4.2")) + wrap(0x03, bytes(1 + 1184)))
    if not has("3.5"):
        with pytest.raises(Unsupported, match=r"3\.5"):
            seal(CONTENT, Recipient(spki=spki))
        with pytest.raises(Unsupported, match=r"3\.5"):
            PrivateKey.generate("ml-kem-768")


@pytest.mark.parametrize("key_wrap", ["aes", "pwri-kek"])
@pytest.mark.parametrize("prf", ["SHA256", "SHA384", "SHA512"])
def test_passwords(key_wrap: Any, prf: Any) -> None:
    sealed = seal(CONTENT, PasswordRecipient(secret=b"secret", prf=prf, key_wrap=key_wrap))
    assert open_enveloped(sealed, b"secret") == CONTENT
    with pytest.raises(BadMessage) as caught:
        open_enveloped(sealed, b"Secret")
    assert caught.value.failure is FailureInfo.BAD_MESSAGE_CHECK
    assert "secret" not in repr(PasswordRecipient(secret=b"secret"))


def test_an_originator_that_the_recipient_knows() -> None:
    server = PrivateKey.load(issuing.key("ec", 7))
    certificate = issuing.der(
        issuing.certificate("kga", issuing.key("ec", 7), "intermediate", issuing.INTER_KEY, usage="key_agreement")
    )
    sealed = seal(CONTENT, Recipient.of(party("ec")[1]), originator=Originator(key=server, certificate=certificate))
    info = cms.EnvelopedData.from_der(sealed).recipient
    assert isinstance(info, cms.KeyAgreeRecipientInfo)
    assert info.originator_key is None
    assert info.ukm is not None
    assert open_enveloped(sealed, ours("ec"), originators=[party("rsa")[1], certificate]) == CONTENT
    with pytest.raises(BadMessage, match="originator"):
        open_enveloped(sealed, ours("ec"))


def test_an_originator_of_another_curve_is_not_used() -> None:
    server, certificate = party("ec384")
    originator = Originator(key=PrivateKey.load(server), certificate=certificate)
    sealed = seal(CONTENT, Recipient.of(party("ec")[1]), originator=originator)
    assert open_enveloped(sealed, ours("ec")) == CONTENT


def test_a_recipient_whose_certificate_is_still_sealed() -> None:
    """RFC 9810, 5.2.8.3.3: NULL-DN and the certReqId."""
    sealed = seal(CONTENT, Recipient(spki=ours("ec").public_key_der, serial_number=3))
    info = cms.EnvelopedData.from_der(sealed).recipient
    assert isinstance(info, cms.KeyAgreeRecipientInfo)
    rid = decode(cms.IssuerAndSerialNumber, encode(info.recipient_encrypted_keys[0].rid))
    assert (encode(rid.issuer), rid.serial_number) == (NULL_DN, 3)


def version_of(sealed: bytes) -> int:
    return decode(int, sealed[slice(*next(iter(elements(sealed))))])


def test_the_versions_are_those_of_rfc_5652() -> None:
    assert version_of(seal(b"", Recipient.of(party("rsa")[1]))) == 2
    assert version_of(seal(b"", Recipient.of(party("rsa", False)[1]))) == 0
    assert version_of(seal(b"", Recipient.of(party("ec")[1]))) == 2
    assert version_of(seal(b"", Recipient.of(party("rsa")[1], "kem"))) == 3
    assert version_of(seal(b"", PasswordRecipient(secret=b"x"))) == 3


# -- openssl cms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rsa", "rsa-pkcs1", "ec", "ec384", "ec521", "brainpool"])
def test_openssl_opens_what_we_seal(tmp_path: Path, kind: str) -> None:
    kind, _, way = kind.partition("-")
    files(tmp_path, kind)
    sealed = seal(CONTENT, Recipient.of(party(kind)[1], "pkcs1" if way else "oaep"))
    assert (
        run(
            tmp_path,
            *("-decrypt", "-inform", "DER", "-recip", "cert.pem", "-inkey", "key.pem", "-binary"),
            data=content_info(sealed),
        )
        == CONTENT
    )


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("rsa", []),
        ("rsa", ["-aes128", "-keyid"]),
        ("rsa", ["-aes192", "-keyopt", "rsa_padding_mode:oaep"]),
        ("rsa", ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"]),
        ("rsa", ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha512", "-keyopt", "rsa_mgf1_md:sha256"]),
        ("ec", ["-keyopt", "ecdh_kdf_md:sha256"]),
        ("ec384", ["-aes128", "-keyopt", "ecdh_kdf_md:sha384", "-keyid"]),
        ("ec521", ["-keyopt", "ecdh_kdf_md:sha512"]),
        ("brainpool", ["-keyopt", "ecdh_kdf_md:sha256"]),
    ],
)
def test_we_open_what_openssl_seals(tmp_path: Path, kind: str, options: list[str]) -> None:
    files(tmp_path, kind)
    cipher = [] if any(each.startswith("-aes") for each in options) else ["-aes256"]
    flags = [each for each in options if each.startswith("-aes") or each == "-keyid"]
    rest = options[len(flags) :] if not flags else [each for each in options if each not in flags]
    sealed = run(
        tmp_path,
        *("-encrypt", "-binary", "-outform", "DER", "-noindef", *cipher, *flags, "-recip", "cert.pem", *rest),
        data=CONTENT,
    )
    assert open_enveloped(inside(sealed), ours(kind)) == CONTENT


def test_passwords_with_openssl(tmp_path: Path) -> None:
    sealed = run(
        tmp_path,
        *("-encrypt", "-binary", "-outform", "DER", "-noindef", "-aes256", "-pwri_password", "secret"),
        data=CONTENT,
    )
    assert open_enveloped(inside(sealed), b"secret") == CONTENT
    mine = content_info(seal(CONTENT, PasswordRecipient(secret=b"secret", key_wrap="pwri-kek")))
    assert run(tmp_path, "-decrypt", "-binary", "-inform", "DER", "-pwri_password", "secret", data=mine) == CONTENT


# -- what does not open --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_with_another_key_nothing_opens_and_the_words_are_the_same(kind: str) -> None:
    sealed = seal(CONTENT, Recipient.of(party("ec")[1]))
    with pytest.raises(BadMessage):
        open_enveloped(sealed, PrivateKey.generate("ec:P-256"))
    sealed = seal(CONTENT, Recipient.of(party("rsa")[1]))
    if kind != "rsa":
        with pytest.raises(BadMessage):
            open_enveloped(sealed, ours(kind))


def transported(encrypted: bytes, content: bytes, iv: bytes = bytes(16)) -> bytes:
    """EnvelopedData by hand, for an RSA key by PKCS #1 v1.5."""
    info = cms.KeyTransRecipientInfo(
        version=0,
        rid=tlv(cms.key_identifier(b"x")),
        key_encryption_algorithm=algorithm(oids.RSA_ENCRYPTION, b"\x05\x00"),
        encrypted_key=encrypted,
    )
    return cms.EnvelopedData(
        recipient=info,
        content=cms.EncryptedContentInfo(
            content_type=x509.ObjectIdentifier(oids.CT_DATA),
            content_encryption_algorithm=algorithm(oids.AES256_CBC, encode(iv)),
            encrypted_content=content,
        ),
    ).to_der()


@pytest.mark.parametrize("what", ["padding", "short", "long", "other key"])
def test_no_answer_tells_how_pkcs1_padding_was_wrong(what: str) -> None:
    """RFC 3218: wrong padding, a key of another length and a wrong key all end in the same words."""
    spki = ours("rsa").public_key_der
    size = 256
    encrypted = {
        "padding": bytes(size - 1) + b"\x02",
        "short": encrypt_key(spki, bytes(16), oaep=None),
        "long": encrypt_key(spki, bytes(48), oaep=None),
        "other key": encrypt_key(spki, bytes(32), oaep=None),
    }[what]
    texts = set()
    for _ in range(3):
        try:
            # With a wrong key one content in 256 or so has a good CBC padding: then it opens as rubbish.
            open_enveloped(transported(encrypted, bytes(range(64))), ours("rsa"))
        except BadMessage as error:
            texts.add((error.failure, error.text))
    assert len(texts) <= 1
    assert texts <= {(FailureInfo.BAD_MESSAGE_CHECK, "the encrypted data do not open with this key")}


@pytest.mark.parametrize("kind", ["ec", "rsa", "x25519"])
def test_a_flipped_bit_anywhere_is_a_bad_message_at_most(kind: str) -> None:
    sealed = seal(b"short", Recipient.of(party(kind)[1]))
    key = ours(kind)
    refused = 0
    for at in range(0, len(sealed), 3):
        with contextlib.suppress(BadMessage):
            open_enveloped(sealed[:at] + bytes((sealed[at] ^ 4,)) + sealed[at + 1 :], key)
            continue
        refused += 1
    assert refused > len(sealed) / 6


@pytest.mark.parametrize("data", [b"", b"0", b"0\x00", b"junk", b"0\x80\x00\x00", bytes(100), b"0\x03\x02\x01\x02"])
def test_nonsense_is_a_bad_data_format(data: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        open_enveloped(data, b"secret")
    assert caught.value.failure is FailureInfo.BAD_DATA_FORMAT


def test_what_would_cost_too_much_is_refused_before_it_costs() -> None:
    limits = EnvelopeLimits(max_bytes=4096, max_iterations=999)
    sealed = seal(b"x", PasswordRecipient(secret=b"s", iterations=1000))
    with pytest.raises(BadMessage, match="iteration count"):
        open_enveloped(sealed, b"s", limits=limits)
    with pytest.raises(BadMessage, match="too long"):
        open_enveloped(seal(bytes(5000), PasswordRecipient(secret=b"s")), b"s", limits=limits)


def test_a_key_that_only_signs_is_refused() -> None:
    spki = ed25519.Ed25519PrivateKey.generate().public_key()
    with pytest.raises(BadMessage, match="nothing can be encrypted"):
        seal(b"", Recipient(spki=spki.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)))
    weak = rsa.generate_private_key(65537, 1024).public_key()
    with pytest.raises(BadMessage, match="key transport"):
        seal(b"", Recipient(spki=weak.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)))


# -- SignedData ----------------------------------------------------------------------------------------------------

TYPE = oids.CT_KP_A_KEY_PACKAGE


@cache
def signer(kind: str, key_id: bool = True) -> tuple[PrivateKey, bytes]:
    key = ed448.Ed448PrivateKey.generate() if kind == "ed448" else issuing.key(kind, 20)
    made = issuing.certificate("kga", key, "intermediate", issuing.INTER_KEY, key_id=key_id)
    return PrivateKey.load(key), issuing.der(made)


TRUST = Trust(issuing.ROOT)
INTERMEDIATE = issuing.der(issuing.INTER)


@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa", "ed25519", "ed448"])
@pytest.mark.parametrize("key_id", [True, False])
def test_what_is_signed_verifies(kind: str, key_id: bool) -> None:
    key, certificate = signer(kind, key_id)
    signed = sign_data(TYPE, CONTENT, key, certificate, [INTERMEDIATE])
    found = verify_signed_data(signed, content_type=TYPE, trust=TRUST)
    assert (found.content, found.certificate, len(found.chain)) == (CONTENT, certificate, 3)
    parsed = cms.SignedData.from_der(signed)
    assert parsed.to_der() == signed
    assert version_of(signed) == 3


@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa"])  # EdDSA with signed attributes came with OpenSSL 3.4
def test_openssl_verifies_what_we_sign(tmp_path: Path, kind: str) -> None:
    (tmp_path / "root.pem").write_bytes(issuing.ROOT.public_bytes(Encoding.PEM))
    key, certificate = signer(kind)
    signed = content_info(sign_data(TYPE, CONTENT, key, certificate, [INTERMEDIATE]), oids.CT_SIGNED_DATA)
    options = ("-verify", "-binary", "-inform", "DER", "-CAfile", "root.pem", "-purpose", "any")
    assert run(tmp_path, *options, data=signed) == CONTENT


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_we_verify_what_openssl_signs(tmp_path: Path, kind: str) -> None:
    key = issuing.key(kind, 20)
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "cert.pem").write_bytes(x509.load_der_x509_certificate(signer(kind)[1]).public_bytes(Encoding.PEM))
    signed = run(
        tmp_path,
        *("-sign", "-binary", "-nodetach", "-outform", "DER", "-noindef", "-signer", "cert.pem", "-inkey", "key.pem"),
        *("-md", "sha256", "-econtent_type", TYPE),
        data=CONTENT,
    )
    found = verify_signed_data(inside(signed), content_type=TYPE, trust=TRUST, untrusted=[INTERMEDIATE])
    assert found.content == CONTENT


def test_a_content_that_was_changed_does_not_verify() -> None:
    key, certificate = signer("ec")
    signed = sign_data(TYPE, CONTENT, key, certificate, [INTERMEDIATE])
    with pytest.raises(ProtectionError) as caught:
        verify_signed_data(signed.replace(CONTENT, CONTENT[::-1]), content_type=TYPE, trust=TRUST)
    assert caught.value.failure is FailureInfo.BAD_MESSAGE_CHECK


def test_signed_attributes_that_were_changed_do_not_verify() -> None:
    key, certificate = signer("ec")
    signed = sign_data(TYPE, CONTENT, key, certificate, [INTERMEDIATE])
    other = cms.SignedData.from_der(sign_data(TYPE, b"other", key, certificate, [INTERMEDIATE]))
    mine = cms.SignedData.from_der(signed)
    mixed = cms.SignedData(
        content_type=TYPE,
        content=b"other",
        certificates=mine.certificates,
        signer=_with(mine.signer, other.signer.signed),
    )
    with pytest.raises(ProtectionError):
        verify_signed_data(mixed.to_der(), content_type=TYPE, trust=TRUST)


def _with(signer_: cms.SignerInfo, signed: bytes) -> cms.SignerInfo:
    return dataclasses.replace(signer_, signed=signed)


def test_a_signer_that_is_not_trusted_and_another_type_are_refused() -> None:
    key, certificate = signer("ec")
    signed = sign_data(TYPE, CONTENT, key, certificate, [INTERMEDIATE])
    stranger = issuing.certificate("stranger", issuing.key("ec", 30), ca=True)
    with pytest.raises(ProtectionError) as caught:
        verify_signed_data(signed, content_type=TYPE, trust=Trust(stranger))
    assert caught.value.failure is FailureInfo.SIGNER_NOT_TRUSTED
    with pytest.raises(BadMessage, match="another type"):
        verify_signed_data(signed, content_type=oids.CT_DATA, trust=TRUST)
    with pytest.raises(ProtectionError):  # long over
        verify_signed_data(
            signed, content_type=TYPE, trust=TRUST, at=datetime.datetime.now(datetime.UTC) + 400 * issuing.DAY
        )


@pytest.mark.parametrize("data", [b"", b"0\x00", b"junk", bytes(100), wrap(0x30, b"\x02\x01\x03" * 4)])
def test_signed_nonsense_is_a_bad_data_format(data: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        verify_signed_data(data, content_type=TYPE, trust=TRUST)
    assert caught.value.failure is FailureInfo.BAD_DATA_FORMAT


# -- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ec:P-256", "rsa:2048", "ed25519", "x25519"])
def test_a_key_travels_in_a_package(kind: str) -> None:
    key = PrivateKey.generate(kind)
    pem = key.to_pem()
    pkcs8 = load_pem_private_key(pem, None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    package = cms.key_package([cms.OneAsymmetricKey.make(pkcs8, key.public_key_der)])
    (found,) = cms.packaged_keys(package)
    assert found.version == 1
    assert found.public_key is not None
    assert PrivateKey.load(found.pkcs8).public_key_der == key.public_key_der


def test_a_hash_that_is_too_weak_is_not_accepted_in_signed_data() -> None:
    key, certificate = signer("rsa")
    parsed = cms.SignedData.from_der(sign_data(TYPE, CONTENT, key, certificate))
    weak = dataclasses.replace(parsed.signer, digest_algorithm=algorithm(oids.SHA1))
    with pytest.raises(BadMessage) as caught:
        verify_signed_data(
            dataclasses.replace(parsed, signer=weak).to_der(), content_type=TYPE, trust=TRUST, untrusted=[INTERMEDIATE]
        )
    assert caught.value.failure is FailureInfo.BAD_ALG
