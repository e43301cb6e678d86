"""Our protection against OpenSSL's: each verifies what the other made. Then everything that must not verify."""

import ctypes
import dataclasses
import os
import random
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12

from opensslcmp._native import lib
from opensslcmp.asn1 import (
    NULL_DN,
    AlgorithmIdentifier,
    PBKDF2Params,
    PBMAC1Params,
    PBMParameter,
    admit,
    algorithm,
    assemble,
    decode,
    make_header,
)
from opensslcmp.asn1 import der as encode
from opensslcmp.asn1.gate import Message
from opensslcmp.asn1.message import protected_part
from opensslcmp.context import certificates, keys, protection
from opensslcmp.context.certificates import Trust
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import (
    MacLimits,
    MacProtector,
    ProtectionKind,
    Protector,
    SignatureProtector,
    Verified,
    fresh_bytes,
    protect_message,
    protector_for,
    verify,
)
from opensslcmp.credentials import MacParameters, SharedSecret, Signer
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, CMPError, ProtectionError
from tests.context.issuing import INTER, NOW, ROOT, der, device, key, message, name

SECRET = SharedSecret("reference", "correct horse")
TRUST = Trust(ROOT, untrusted=[INTER])


def secrets(reference: bytes) -> bytes | None:
    return {b"reference": b"correct horse"}.get(reference)


def signer(kind: str = "ec", **options: Any) -> SignatureProtector:
    return SignatureProtector(Signer(device(kind, **options), key(kind), [INTER]))


def refused(data: bytes | Message, **options: Any) -> FailureInfo:
    """Why ``verify`` says no; the error queue stays empty."""
    given: dict[str, Any] = {"secrets": secrets, "trust": TRUST} | options
    with pytest.raises(ProtectionError) as caught:
        verify(admit(data) if isinstance(data, bytes) else data, **given)
    assert lib.ERR_peek_error() == 0
    return caught.value.failure


# -- MAC ------------------------------------------------------------------------------------------------------------

MACS = [
    MacParameters(),
    MacParameters(owf="SHA1", mac="hmac-sha1", iterations=500),
    MacParameters(owf="SHA256", mac="hmacWithSHA1", iterations=1, salt_length=8),
    MacParameters(owf="SHA384", mac="hmac-sha384", iterations=100, salt_length=32),
    MacParameters(owf="SHA512", mac="hmac-sha512", iterations=100, salt_length=128),
    MacParameters(owf="SHA3-256", mac="hmac-sha3-512", iterations=100),
    MacParameters(scheme="pbmac1"),
    MacParameters(scheme="pbmac1", owf="SHA1", mac="hmac-sha1", key_length=20),
    MacParameters(scheme="pbmac1", owf="SHA512", mac="hmac-sha512", iterations=1000, key_length=64),
]


@pytest.mark.parametrize("parameters", MACS, ids=lambda each: f"{each.scheme}-{each.owf}-{each.mac}")
def test_a_mac_verifies_with_its_secret_only(parameters: MacParameters) -> None:
    protected = admit(message(MacProtector(SECRET, parameters)))
    found = verify(protected, secrets=secrets)
    assert (found.kind, found.reference, found.identity) == (ProtectionKind.MAC, b"reference", b"mac:reference")
    assert found.mac is not None
    assert (found.mac.owf, found.mac.iterations, found.mac.salt_length) == (
        parameters.owf,
        parameters.iterations,
        parameters.salt_length,
    )
    assert refused(protected, secrets=lambda reference: b"wrong") is FailureInfo.BAD_MESSAGE_CHECK
    assert refused(protected, secrets=lambda reference: None) is FailureInfo.BAD_MESSAGE_CHECK


def test_an_answer_mirrors_the_parameters_of_the_request_and_its_salt_when_asked_to() -> None:
    for parameters in MACS:
        request = admit(message(MacProtector(SECRET, parameters)))
        found = verify(request, secrets=secrets)
        assert found.mac is not None
        answer = admit(message(MacProtector(SECRET).like(found.mac)))
        assert verify(answer, secrets=secrets).mac == found.mac
        assert answer.protection_algorithm == request.protection_algorithm
        assert encode(request.header.protection_alg) != encode(answer.header.protection_alg)
        answer = admit(message(MacProtector(SECRET).like(found.mac, found.salt)))
        assert verify(answer, secrets=secrets).mac == found.mac
        assert encode(request.header.protection_alg) == encode(answer.header.protection_alg)


def test_a_derived_key_is_kept_for_what_verified_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protection, "_keys", {})
    for parameters in MACS:
        protected = admit(message(MacProtector(SECRET, parameters)))
        protection._keys.clear()
        for source in (lambda reference: b"wrong", lambda reference: None):
            assert refused(protected, secrets=source) is FailureInfo.BAD_MESSAGE_CHECK
            assert not protection._keys
        first = verify(protected, secrets=secrets)
        assert len(protection._keys) == 1
        assert verify(protected, secrets=secrets) == first
        assert refused(protected, secrets=lambda reference: b"wrong") is FailureInfo.BAD_MESSAGE_CHECK


def test_derived_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protection, "_keys", {})
    monkeypatch.setattr(protection, "_KEYS_KEPT", 3)
    protector = MacProtector(SECRET)
    for _ in range(5):
        message(protector)
    assert len(protection._keys) == 3


def test_a_secret_source_may_answer_with_a_shared_secret() -> None:
    assert verify(admit(message(MacProtector(SECRET))), secrets=lambda reference: SECRET).reference == b"reference"


def test_unknown_reference_and_wrong_secret_are_the_same_error_after_the_same_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    protected = admit(message(MacProtector(SECRET)))
    computed = []
    real = protection._mac

    def counted(parameters: MacParameters, *rest: Any) -> Any:
        computed.append(parameters)
        return real(parameters, *rest)

    monkeypatch.setattr(protection, "_mac", counted)
    texts = set()
    for source in (lambda reference: None, lambda reference: b"wrong", lambda reference: b""):
        with pytest.raises(ProtectionError) as caught:
            verify(protected, secrets=source)
        texts.add((str(caught.value), caught.value.failure))
    assert len(texts) == 1
    assert len(computed) == 3
    assert len(set(computed)) == 1


def test_a_missing_sender_kid_is_forgiven_only_on_request() -> None:
    protector = MacProtector(SECRET)
    bare = _resign(protector, message(protector), sender_kid=None)
    assert refused(bare) is FailureInfo.BAD_MESSAGE_CHECK
    assert verify(admit(bare), secrets=secrets, require_sender_kid=False).reference == b"reference"
    nobody = _resign(protector, message(protector, sender=NULL_DN), sender_kid=None)
    assert refused(nobody, require_sender_kid=False) is FailureInfo.BAD_MESSAGE_CHECK


def test_a_sender_with_several_names_or_none_is_searched_for_the_reference() -> None:
    protector = MacProtector(SECRET)
    organization = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "organization")
    common = x509.NameAttribute(x509.NameOID.COMMON_NAME, "reference")
    for sender, found in (
        (x509.Name([organization, common]).public_bytes(), True),
        (x509.Name([common, common]).public_bytes(), False),
        (b"\x30\x03\x31\x01\x00", False),
    ):
        protected = admit(message(protector, sender=sender))
        if found:
            assert verify(protected, secrets=secrets, mac_sender=True)
        else:
            assert refused(protected, mac_sender=True) is FailureInfo.BAD_MESSAGE_CHECK


def test_what_the_gate_would_have_stopped_is_stopped_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    protected = admit(message(MacProtector(SECRET)))
    assert refused(dataclasses.replace(protected, protection=None)) is FailureInfo.WRONG_INTEGRITY
    assert refused(dataclasses.replace(protected, mac=None)) is FailureInfo.BAD_ALG
    junk = PBMAC1Params(key_derivation_func=algorithm("1.2.840.113549.1.5.12"), message_auth_scheme=HMAC)
    assert refused(dataclasses.replace(protected, mac=junk)) is FailureInfo.BAD_ALG
    monkeypatch.setattr(protection, "_mac", lambda *arguments: (-1, b""))
    assert refused(protected) is FailureInfo.BAD_ALG


def test_the_sender_of_a_mac_is_compared_only_on_request() -> None:
    protector = MacProtector(SECRET)
    assert protector.sender_name == name("reference").public_bytes()
    for sender in NULL_DN, name("device").public_bytes():
        protected = message(protector, sender=sender)
        assert verify(admit(protected), secrets=secrets).reference == b"reference"
        assert refused(protected, mac_sender=True) is FailureInfo.BAD_MESSAGE_CHECK
    assert verify(admit(message(protector)), secrets=secrets, mac_sender=True)


def test_a_reference_that_is_no_text_has_no_sender_name() -> None:
    assert MacProtector(SharedSecret(b"\xff\xfe", b"secret")).sender_name == NULL_DN


@pytest.mark.parametrize(
    ("parameters", "limits"),
    [
        (MacParameters(iterations=10_001), MacLimits()),
        (MacParameters(iterations=99), MacLimits(min_iterations=100)),
        (MacParameters(iterations=3_334, owf="SHA512"), MacLimits()),
        (MacParameters(iterations=4_001, scheme="pbmac1"), MacLimits()),
        (MacParameters(iterations=2_001, scheme="pbmac1", owf="SHA512"), MacLimits()),
        (MacParameters(salt_length=8), MacLimits(min_salt_bytes=16)),
        (MacParameters(salt_length=32), MacLimits(max_salt_bytes=16)),
        (MacParameters(owf="SHA1"), MacLimits(digests=frozenset(("SHA256",)))),
        (MacParameters(mac="hmac-sha1"), MacLimits(digests=frozenset(("SHA256",)))),
    ],
)
def test_a_mac_outside_the_limits_is_bad_alg_before_anybody_is_asked(
    parameters: MacParameters, limits: MacLimits
) -> None:
    from opensslcmp.asn1 import Limits

    protected = admit(message(MacProtector(SECRET, parameters)), limits=Limits(max_mac_iterations=1 << 20))

    def nobody(reference: bytes) -> bytes:
        raise AssertionError("asked for a secret")

    assert refused(protected, secrets=nobody, limits=limits) is FailureInfo.BAD_ALG


@pytest.mark.parametrize(
    "parameters",
    [
        MacParameters(scheme="kem"),
        MacParameters(owf="MD5"),
        MacParameters(mac="hmac-md5"),
        MacParameters(iterations=0),
        MacParameters(salt_length=7),
        MacParameters(scheme="pbmac1", key_length=65),
        MacParameters(scheme="pbmac1", key_length=19),
    ],
)
def test_parameters_that_no_mac_has_are_the_callers_mistake(parameters: MacParameters) -> None:
    with pytest.raises(ValueError, match=r"."):
        MacProtector(SECRET, parameters)


SHA256 = algorithm("2.16.840.1.101.3.4.2.1")
HMAC = algorithm("1.2.840.113549.2.9", b"\x05\x00")
SALT = bytes(16)


def _pbm(**changes: Any) -> bytes:
    fields: dict[str, Any] = {"salt": SALT, "owf": SHA256, "iteration_count": 500, "mac": HMAC} | changes
    return encode(algorithm("1.2.840.113533.7.66.13", encode(PBMParameter(**fields))))


def _pbmac1(mac: Any = HMAC, **changes: Any) -> bytes:
    fields: dict[str, Any] = {"salt": SALT, "iteration_count": 500, "key_length": 32, "prf": HMAC} | changes
    derivation = algorithm("1.2.840.113549.1.5.12", encode(PBKDF2Params(**fields)))
    both = PBMAC1Params(key_derivation_func=derivation, message_auth_scheme=mac)
    return encode(algorithm("1.2.840.113549.1.5.14", encode(both)))


@pytest.mark.parametrize(
    "identifier",
    [
        _pbm(owf=algorithm("1.2.840.113549.2.5")),
        _pbm(owf=algorithm("2.16.840.1.101.3.4.2.1", b"\x02\x01\x00")),
        _pbm(mac=algorithm("1.3.6.1.5.5.8.1.1")),
        _pbm(mac=algorithm("1.2.840.113533.7.66.13")),
        _pbmac1(prf=algorithm("1.2.840.113549.2.5")),
        _pbmac1(mac=algorithm("1.2.840.113549.2.5")),
        _pbmac1(key_length=65),
        _pbmac1(key_length=19),
        _pbmac1(key_length=1),
        encode(algorithm("1.2.840.113533.7.66.30")),
        encode(algorithm("1.2.3.4")),
    ],
)
def test_a_mac_that_we_do_not_compute_is_bad_alg(identifier: bytes) -> None:
    header = make_header(
        sender=NULL_DN,
        recipient=NULL_DN,
        transaction_id=bytes(16),
        sender_nonce=bytes(16),
        sender_kid=b"reference",
        protection_alg=identifier,
    )
    assert refused(assemble(protected_part(header, BodyType.PKICONF, b"\x05\x00"), bytes(32))) is FailureInfo.BAD_ALG


# -- signatures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa", "ed25519", "ed448"])
def test_a_signature_verifies_and_names_its_certificate_and_path(kind: str) -> None:
    protector = signer(kind)
    protected = admit(message(protector))
    assert protected.extra_certs == protector.certificates
    for _ in range(2):
        found = verify(protected, trust=Trust(ROOT))
        assert found.kind is ProtectionKind.SIGNATURE
        assert found.certificate == protector.certificates[0]
        assert found.chain == (*protector.certificates, der(ROOT))
        assert found.identity == protector.identity
    assert lib.ERR_peek_error() == 0


def test_pss_digest_and_shake_may_be_chosen() -> None:
    rsa = Signer(device("rsa"), key("rsa"), digest="SHA512")
    assert verify(admit(message(SignatureProtector(rsa, pss=True))), trust=TRUST).algorithm == "id-RSASSA-PSS"
    assert verify(admit(message(SignatureProtector(rsa))), trust=TRUST).algorithm == "sha512WithRSAEncryption"
    shake = SignatureProtector(Signer(device(), key(), digest="SHAKE256"))
    assert verify(admit(message(shake)), trust=TRUST).algorithm == "id-ecdsa-with-shake256"


def test_a_signer_loads_from_pkcs12(tmp_path: Path) -> None:
    path = tmp_path / "device.p12"
    path.write_bytes(
        pkcs12.serialize_key_and_certificates(None, key(), device(), [INTER], BestAvailableEncryption(b"pass"))
    )
    protector = SignatureProtector(Signer(path, path, password=b"pass"))
    assert verify(admit(message(protector)), trust=Trust(ROOT)).chain[1] == der(INTER)


def test_a_key_of_another_certificate_is_the_callers_mistake() -> None:
    for kind in "ec384", "rsa":
        with pytest.raises(ValueError, match="not the certificate's"):
            SignatureProtector(Signer(device(), key(kind)))


def test_sender_and_sender_kid_must_be_the_certificates() -> None:
    protector = signer()
    assert refused(message(protector, sender=name("other").public_bytes())) is FailureInfo.BAD_MESSAGE_CHECK
    assert refused(message(protector, sender=NULL_DN)) is FailureInfo.BAD_MESSAGE_CHECK
    assert verify(admit(message(protector, sender=name("DEVICE").public_bytes())), trust=TRUST)
    for kid in b"other", None:
        changed = _resign(protector, message(protector), sender_kid=kid)
        assert refused(changed) is FailureInfo.BAD_MESSAGE_CHECK
        if kid is None:
            assert verify(admit(changed), trust=TRUST, require_sender_kid=False)
        else:
            assert refused(changed, require_sender_kid=False) is FailureInfo.BAD_MESSAGE_CHECK


def test_a_certificate_without_key_identifier_needs_no_sender_kid() -> None:
    protector = signer(key_id=False)
    assert protector.sender_kid is None
    assert verify(admit(message(protector)), trust=TRUST).kind is ProtectionKind.SIGNATURE


def test_the_protection_certificate_is_the_first_unless_forgiven() -> None:
    protector = signer()
    whole = admit(message(protector))
    turned = assemble(whole.protected_part, whole.protection, (der(INTER), b"\x30\x00", protector.certificates[0]))
    assert refused(turned) is FailureInfo.BAD_MESSAGE_CHECK
    assert verify(admit(turned), trust=TRUST, first_certificate=False).certificate == protector.certificates[0]
    bare = assemble(whole.protected_part, whole.protection)
    assert refused(bare) is FailureInfo.BAD_MESSAGE_CHECK
    assert verify(admit(bare), trust=TRUST, candidates=[protector.certificates[0]]).kind is ProtectionKind.SIGNATURE


def test_a_first_certificate_that_does_not_decode_is_a_bad_check() -> None:
    whole = admit(message(signer()))
    junk = assemble(whole.protected_part, whole.protection, (b"\x30\x00",))
    assert refused(junk) is FailureInfo.BAD_MESSAGE_CHECK


def test_a_stranger_an_expired_and_a_revoked_signer_are_told_apart() -> None:
    from tests.context.issuing import INTER_KEY, certificate, crl

    stranger = certificate("device", key())
    assert refused(message(SignatureProtector(Signer(stranger, key())))) is FailureInfo.SIGNER_NOT_TRUSTED
    assert refused(message(signer()), at=NOW + timedelta(days=40)) is FailureInfo.SIGNER_NOT_TRUSTED
    revoked = device()
    trust = Trust(ROOT, untrusted=[INTER], crls=[crl("intermediate", INTER_KEY, revoked)])
    protected = message(SignatureProtector(Signer(revoked, key())))
    assert refused(protected, trust=trust) is FailureInfo.CERT_REVOKED


def test_key_usage_must_allow_signing_messages_unless_forgiven() -> None:
    protected = message(signer(usage="key_agreement"))
    assert refused(protected) is FailureInfo.NOT_AUTHORIZED
    assert verify(admit(protected), trust=TRUST, check_key_usage=False)


def test_a_pinned_certificate_is_the_only_one_and_needs_no_path() -> None:
    from tests.context.issuing import certificate

    stranger = certificate("device", key())
    protected = message(SignatureProtector(Signer(stranger, key())))
    found = verify(admit(protected), pinned=der(stranger))
    assert found.chain == (der(stranger),)
    other = certificate("device", key("ec384"))
    assert refused(protected, pinned=der(other)) is FailureInfo.BAD_MESSAGE_CHECK
    # The same key and name under another certificate is another one, too.
    renewed = message(signer())
    assert refused(renewed, pinned=der(stranger)) is FailureInfo.BAD_MESSAGE_CHECK
    assert verify(admit(renewed), pinned=der(stranger), first_certificate=False).certificate == der(stranger)
    whole = admit(protected)
    assert verify(admit(assemble(whole.protected_part, whole.protection)), pinned=der(stranger)).chain


def test_a_small_rsa_key_is_bad_alg() -> None:
    assert refused(message(signer("rsa1024"))) is FailureInfo.BAD_ALG


# -- kinds ----------------------------------------------------------------------------------------------------------


def test_an_unprotected_message_is_nobodys() -> None:
    header = make_header(sender=NULL_DN, recipient=NULL_DN, transaction_id=bytes(16), sender_nonce=bytes(16))
    bare = assemble(protected_part(header, BodyType.PKICONF, b"\x05\x00"), None)
    assert verify(admit(bare), secrets=secrets, trust=TRUST) == Verified(kind=ProtectionKind.NONE)


def test_algorithm_and_protection_come_together() -> None:
    whole = admit(message(MacProtector(SECRET)))
    without = assemble(whole.protected_part, None)
    header = dataclasses.replace(whole.header, protection_alg=None)
    unnamed = assemble(protected_part(header, BodyType.PKICONF, b"\x05\x00"), whole.protection)
    for broken in without, unnamed:
        # The gate may say so already.
        with pytest.raises(CMPError) as caught:
            verify(admit(broken), secrets=secrets)
        assert isinstance(caught.value, ProtectionError | BadMessage)
        assert caught.value.failure is FailureInfo.WRONG_INTEGRITY


def test_a_kind_that_is_not_accepted_is_wrong_integrity() -> None:
    assert refused(message(MacProtector(SECRET)), secrets=None) is FailureInfo.WRONG_INTEGRITY
    assert refused(message(signer()), trust=None) is FailureInfo.WRONG_INTEGRITY


# -- OpenSSL as the other side ----------------------------------------------------------------------------------------


def _resign(protector: Any, data: bytes, **changes: Any) -> bytes:
    """The message with other header fields, protected again over them."""
    whole = admit(data)
    identifier, make = protector.begin()
    header = dataclasses.replace(whole.header, protection_alg=decode(AlgorithmIdentifier, identifier), **changes)
    part = protected_part(header, whole.body_type, whole.body_der)
    return assemble(part, make(part), whole.extra_certs)


def _answer(directory: Path) -> str:
    """A file with some answer: openssl then connects to nobody."""
    path = directory / "answer.der"
    path.write_bytes(message(MacProtector(SECRET)))
    return str(path)


def _openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the device's key and certificate, and the anchors."""
    made = tmp_path_factory.mktemp("files")
    for kind in "ec", "rsa":
        (made / f"{kind}.key").write_bytes(PrivateKey.load(key(kind)).to_pem())
        (made / f"{kind}.pem").write_bytes(device(kind).public_bytes(Encoding.PEM))
    (made / "root.pem").write_bytes(ROOT.public_bytes(Encoding.PEM))
    (made / "inter.pem").write_bytes(INTER.public_bytes(Encoding.PEM))
    return made


OPENSSL_MACS = [
    ("sha256", "hmac-sha1", "hmac-sha1"),
    ("sha256", "hmacWithSHA256", "hmac-sha256"),
    ("sha512", "hmacWithSHA512", "hmac-sha512"),
    ("sha1", "hmacWithSHA1", "hmacWithSHA1"),
]


@pytest.mark.parametrize("names", OPENSSL_MACS, ids=lambda each: "-".join(each[:2]))
@pytest.mark.parametrize("command", ["genm", "ir"])
def test_we_verify_what_openssl_protects_with_a_secret(
    names: tuple[str, str, str], command: str, files: Path, tmp_path: Path
) -> None:
    owf, mac, ours = names
    request = tmp_path / "request.der"
    arguments = ["cmp", "-cmd", command, "-server", "127.0.0.1:1", "-reqout", str(request), "-ref", "reference"]
    arguments += ["-secret", "pass:correct horse", "-digest", owf, "-mac", mac, "-rspin", _answer(tmp_path)]
    if command == "ir":
        arguments += ["-newkey", str(files / "ec.key"), "-subject", "/CN=device", "-certout", str(tmp_path / "out")]
    else:
        arguments += ["-infotype", "signKeyPairTypes"]
    done = _openssl(*arguments)
    assert request.exists(), done.stderr
    found = verify(admit(request.read_bytes()), secrets=secrets)
    assert found.mac is not None
    assert (found.mac.owf, found.mac.mac) == (owf.upper(), ours)
    assert refused(request.read_bytes(), secrets=lambda reference: b"wrong") is FailureInfo.BAD_MESSAGE_CHECK


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_we_verify_what_openssl_signs(kind: str, digest: str, files: Path, tmp_path: Path) -> None:
    request = tmp_path / "request.der"
    done = _openssl(
        *("cmp", "-cmd", "ir", "-server", "127.0.0.1:1", "-reqout", str(request), "-rspin", _answer(tmp_path)),
        *("-cert", str(files / f"{kind}.pem"), "-key", str(files / f"{kind}.key"), "-digest", digest),
        *("-untrusted", str(files / "inter.pem"), "-trusted", str(files / "root.pem")),
        *("-newkey", str(files / "ec.key"), "-subject", "/CN=device", "-certout", str(tmp_path / "out")),
    )
    assert request.exists(), done.stderr
    found = verify(admit(request.read_bytes()), trust=Trust(ROOT))
    assert found.certificate == der(device_of(files, kind))
    assert found.algorithm.lower().find(digest) >= 0


RECORDED = sorted((Path(__file__).parents[1] / "data" / "cmp").glob("[ms]*_*.der"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_messages_of_openssl_verify(path: Path) -> None:
    recorded = admit(path.read_bytes())
    options: dict[str, Any] = {"secrets": lambda reference: b"secret"}
    if path.stem.startswith("sig"):
        options = {"pinned": recorded.extra_certs[0]}
    assert verify(recorded, **options).kind is not ProtectionKind.NONE
    damaged = dataclasses.replace(recorded, protected_part=recorded.protected_part + b"\0")
    assert refused(damaged, **options) is FailureInfo.BAD_MESSAGE_CHECK


def device_of(files: Path, kind: str) -> Any:
    from cryptography import x509

    return x509.load_pem_x509_certificate((files / f"{kind}.pem").read_bytes())


def _native(data: bytes) -> Any:
    pytest.importorskip("opensslcmp.context.message")
    from opensslcmp.context.client import ClientContext
    from opensslcmp.context.message import NativeMessage

    return NativeMessage(data), ClientContext()


@pytest.mark.parametrize("parameters", [each for each in MACS if each.scheme == "pbm" and each.iterations >= 100])
def test_openssl_verifies_our_macs(parameters: MacParameters) -> None:
    if "sha3" in parameters.mac:
        pytest.skip("OpenSSL's PasswordBasedMac takes HMAC with SHA-3 under no OID that it maps")
    theirs, context = _native(message(MacProtector(SECRET, parameters)))
    context.secret = b"correct horse"
    theirs.validate(context)
    theirs, context = _native(message(MacProtector(SECRET, parameters)))
    context.secret = b"wrong"
    with pytest.raises(CMPError):
        theirs.validate(context)


@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa", "ed25519"])
def test_openssl_verifies_our_signatures(kind: str) -> None:
    if kind == "ed25519" and lib.OPENSSLCMP_LEVEL < 32:
        pytest.skip("OpenSSL's CMP verifies EdDSA since 3.2")
    theirs, context = _native(message(signer(kind)))
    context.trust([der(ROOT)])
    context.untrusted = [der(INTER)]
    theirs.validate(context)


# -- what must not verify, and must not crash -------------------------------------------------------------------------


def _outcome(data: bytes) -> str:
    """What becomes of a message: who it is from, or the kind of refusal. Anything else is a crash of the test."""
    try:
        found = verify(admit(data), secrets=secrets, trust=TRUST)
    except (BadMessage, ProtectionError) as error:
        assert lib.ERR_peek_error() == 0
        return type(error).__name__
    return found.kind.name


@pytest.mark.parametrize(
    "make", [lambda: MacProtector(SECRET), signer, lambda: signer("rsa")], ids=["mac", "ec", "rsa"]
)
def test_a_flipped_bit_anywhere_is_noticed(make: Any) -> None:
    protector = make()
    data = message(protector)
    whole = admit(data)
    harmless = set()
    for at in range(len(data)):
        flipped = data[:at] + bytes((data[at] ^ 1 << at % 8,)) + data[at + 1 :]
        if _outcome(flipped) in {"MAC", "SIGNATURE"}:
            harmless.add(at)
    # Nothing vouches for the certificates after the first, and only those that a path needs are looked at. The trust
    # used here knows the intermediate already, so a damaged copy of it is of no use and of no harm.
    rest = data.rfind(whole.extra_certs[-1]) if len(whole.extra_certs) > 1 else len(data)
    assert all(at >= rest for at in harmless)
    assert len(harmless) > 50 or len(whole.extra_certs) < 2


def test_ten_thousand_mutated_messages_never_crash() -> None:
    generator = random.Random(20260101)
    originals = [message(MacProtector(SECRET)), message(signer()), message(signer("ed25519"))]
    originals.append(message(MacProtector(SECRET, MacParameters(scheme="pbmac1", iterations=10))))
    kinds: dict[str, int] = {}
    for _ in range(10_000):
        data = bytearray(generator.choice(originals))
        for _ in range(generator.randint(1, 4)):
            at = generator.randrange(len(data))
            match generator.randrange(4):
                case 0:
                    data[at] = generator.randrange(256)
                case 1:
                    del data[at : at + generator.randint(1, 8)]
                case 2:
                    data[at:at] = generator.randbytes(generator.randint(1, 8))
                case _:
                    data[at] ^= 1 << generator.randrange(8)
        outcome = _outcome(bytes(data))
        kinds[outcome] = kinds.get(outcome, 0) + 1
    assert kinds.get("NONE", 0) == 0
    assert kinds["BadMessage"] > 100
    assert kinds["ProtectionError"] > 100


def test_mutated_certificates_never_crash() -> None:
    generator = random.Random(7)
    whole = admit(message(signer()))
    certificate, *chain = whole.extra_certs
    for _ in range(1_500):
        data = bytearray(certificate)
        for _ in range(generator.randint(1, 3)):
            data[generator.randrange(4, len(data))] ^= 1 << generator.randrange(8)
        assert _outcome(assemble(whole.protected_part, whole.protection, (bytes(data), *chain))) != "SIGNATURE"


# -- the whole message ------------------------------------------------------------------------------------------------


def test_protect_message_replaces_one_protection_by_another() -> None:
    first = message(MacProtector(SECRET), sender_kid=None)
    second = protect_message(first, Signer(device(), key(), [INTER]))
    mine = admit(second)
    assert (mine.transaction_id, mine.sender_nonce) == (admit(first).transaction_id, admit(first).sender_nonce)
    assert verify(admit(protect_message(second, SECRET)), secrets=secrets).reference == b"reference"
    assert admit(protect_message(second, SECRET)).extra_certs == mine.extra_certs
    from opensslcmp.asn1 import Limits

    with pytest.raises(BadMessage):
        protect_message(first, SECRET, limits=Limits(max_message_bytes=10))


def test_a_protector_is_made_of_any_credential() -> None:
    mac = protector_for(SECRET)
    assert protector_for(mac) is mac
    assert mac.identity == b"mac:reference"
    assert (mac.kind, mac.sender_kid, mac.certificates) == (ProtectionKind.MAC, b"reference", ())
    assert protector_for(Signer(device(), key())).kind is ProtectionKind.SIGNATURE
    assert "horse" not in repr(mac) + repr(SECRET)
    assert repr(protector_for(Signer(device(), key()))) == "<SignatureProtector <PrivateKey EC 256 bits>>"


def test_certificates_are_sent_once() -> None:
    protector = signer()
    header = make_header(
        sender=protector.sender_name, recipient=NULL_DN, transaction_id=bytes(16), sender_nonce=bytes(16)
    )
    data = protection.protect(header, BodyType.PKICONF, b"\x05\x00", protector, [der(INTER), der(ROOT), der(ROOT)])
    assert admit(data).extra_certs == (*protector.certificates, der(ROOT))


def test_fresh_bytes_never_repeat_also_in_a_forked_child() -> None:
    assert len({fresh_bytes(16) for _ in range(2000)}) == 2000
    assert len(fresh_bytes(5000)) == 5000
    protection._drop_pool()
    assert len(fresh_bytes(16)) == 16
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, fresh_bytes(16))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 16) != fresh_bytes(16)
    os.close(reading)
    os.close(writing)


class _Counting:
    """``lib``, counting the calls into C."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(lib, name)
        if not callable(value):
            return value

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            return value(*arguments)

        return call


@pytest.mark.parametrize(
    "make", [lambda: MacProtector(SECRET), signer, lambda: signer("rsa"), lambda: signer("ed25519")]
)
def test_protecting_and_verifying_cross_into_c_once_each(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    protector = make()
    verify(admit(message(protector)), secrets=secrets, trust=TRUST)
    counting = _Counting()
    for module in (protection, keys, certificates):
        monkeypatch.setattr(module, "lib", counting)
    protected = admit(message(protector))
    assert len(counting.calls) == 1
    verify(protected, secrets=secrets, trust=TRUST)
    assert len(counting.calls) == 2


def test_eight_threads_protect_and_verify_with_shared_objects() -> None:
    protectors: list[Protector] = [MacProtector(SECRET), signer(), signer("rsa"), signer("ed25519")]
    trust = Trust(ROOT, untrusted=[INTER])
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(40):
                protected = message(protectors[(number + turn) % 4])
                assert verify(admit(protected), secrets=secrets, trust=trust).kind is not ProtectionKind.NONE
                damaged = protected[:60] + bytes((protected[60] ^ 1,)) + protected[61:]
                assert _outcome(damaged) in {"BadMessage", "ProtectionError"}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc's mallinfo2")
def test_no_operation_leaks_memory_of_libcrypto() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.context.leaks_protection"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
