import datetime
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12

from opensslcmp._native import lib
from opensslcmp.context import certificates
from opensslcmp.context.certificates import Trust, facts, load_certificate, load_certificates, same_name
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import OpenSSLError, ProtectionError
from tests.context.issuing import DAY, INTER, INTER_KEY, NOW, ROOT, ROOT_KEY, certificate, crl, der, device, key, name

LEAF = device()


def _failure(trust: Trust, leaf: Any, *untrusted: Any, at: Any = None) -> FailureInfo:
    with pytest.raises(ProtectionError) as caught:
        trust.path(der(leaf), [der(each) for each in untrusted], at)
    assert lib.ERR_peek_error() == 0
    return caught.value.failure


# -- loading ------------------------------------------------------------------------------------------------------


def test_a_certificate_loads_from_every_source(tmp_path: Path) -> None:
    for number, encoding in enumerate((Encoding.PEM, Encoding.DER)):
        data = LEAF.public_bytes(encoding)
        path = tmp_path / f"certificate{number}"
        assert encoding is Encoding.DER or load_certificate(data.decode()) == der(LEAF)
        path.write_bytes(data)
        for source in LEAF, data, bytearray(data), path, str(path), path.as_uri():
            assert load_certificate(source) == der(LEAF)


def test_all_certificates_of_a_pem_file_load_in_order(tmp_path: Path) -> None:
    path = tmp_path / "chain.pem"
    path.write_bytes(LEAF.public_bytes(Encoding.PEM) + INTER.public_bytes(Encoding.PEM))
    assert load_certificates(path) == [der(LEAF), der(INTER)]


def test_certificates_load_from_pkcs12(tmp_path: Path) -> None:
    data = pkcs12.serialize_key_and_certificates(None, key(), LEAF, [INTER], BestAvailableEncryption(b"pass"))
    path = tmp_path / "bundle.p12"
    path.write_bytes(data)
    for source in data, path:
        assert set(load_certificates(source, "pass")) == {der(LEAF), der(INTER)}
    with pytest.raises(OpenSSLError, match="wrong or missing password"):
        load_certificates(data, "wrong")
    with pytest.raises(ValueError, match="no certificate"):
        load_certificates(data)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_the_callers_mistake(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        load_certificate(data)
    with pytest.raises(TypeError, match="not a source"):
        load_certificate(17)


def test_a_key_holds_no_certificate(tmp_path: Path) -> None:
    from opensslcmp.context.keys import PrivateKey

    path = tmp_path / "key.pem"
    path.write_bytes(PrivateKey.load(key()).to_pem())
    for source in path.read_bytes(), path.as_uri():
        with pytest.raises(ValueError, match="no certificate"):
            load_certificates(source)


def test_facts_tell_what_the_certificate_says() -> None:
    found = facts(der(LEAF))
    assert found.subject == name("device").public_bytes()
    assert found.issuer == name("intermediate").public_bytes()
    assert found.serial_number == LEAF.serial_number
    assert found.key_id == x509.SubjectKeyIdentifier.from_public_key(key().public_key()).digest
    assert found.digital_signature
    assert found.not_after == LEAF.not_valid_after_utc.timestamp()
    assert found.fingerprint == LEAF.fingerprint(hashes.SHA256())
    assert found.extended_key_usage == ()
    other = facts(der(device(usage="key_agreement", key_id=False)))
    assert (other.digital_signature, other.key_id) == (False, None)
    assert facts(der(device(usage=None))).digital_signature


def test_extended_key_usage_is_told_by_oid() -> None:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name("ra"))
        .issuer_name(name("ra"))
        .public_key(key().public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")]), False)
    )
    assert facts(der(builder.sign(key(), hashes.SHA256()))).extended_key_usage == ("1.3.6.1.5.5.7.3.28",)


def test_what_is_no_certificate_has_no_facts() -> None:
    data = der(LEAF)
    for damaged in b"", data[:-1], data + b"\0", b"\x30\x00":
        with pytest.raises(ProtectionError):
            facts(damaged)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("device", "device", True),
        ("Device  One", "device one", True),
        ("device", "devise", False),
    ],
)
def test_names_compare_without_case_and_string_type(one: str, other: str, same: bool) -> None:
    kinds = x509.name._ASN1Type.UTF8String, x509.name._ASN1Type.PrintableString
    first, second = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text, kind)]).public_bytes()
        for text, kind in zip((one, other), kinds, strict=True)
    )
    assert same_name(first, second) is same


def test_what_is_no_name_equals_only_itself() -> None:
    assert same_name(b"nonsense", b"nonsense")
    assert not same_name(b"nonsense", b"\x30\x00")
    assert not same_name(name("a").public_bytes(), b"\x30\x00")


# -- paths --------------------------------------------------------------------------------------------------------


def test_a_path_leads_to_the_anchor_through_intermediates_of_either_side() -> None:
    expected = (der(LEAF), der(INTER), der(ROOT))
    assert Trust(ROOT).path(der(LEAF), [der(INTER)]) == expected
    assert Trust([ROOT], untrusted=[INTER]).path(der(LEAF)) == expected
    assert Trust([ROOT, INTER]).path(der(LEAF))[:2] == expected[:2]


def test_a_path_that_is_not_there_is_signer_not_trusted() -> None:
    stranger = certificate("root", key("ec384"), ca=True)
    assert _failure(Trust(ROOT), LEAF) is FailureInfo.SIGNER_NOT_TRUSTED
    assert _failure(Trust(stranger), LEAF, INTER, ROOT) is FailureInfo.SIGNER_NOT_TRUSTED


def test_an_anchor_among_extra_certs_is_not_believed() -> None:
    stranger = certificate("stranger", key("ec384"), ca=True)
    leaf = certificate("device", key(), "stranger", key("ec384"))
    assert _failure(Trust(ROOT), leaf, stranger) is FailureInfo.SIGNER_NOT_TRUSTED


def test_an_intermediate_ends_a_path_unless_that_is_switched_off() -> None:
    assert Trust(INTER).path(der(LEAF)) == (der(LEAF), der(INTER))
    assert _failure(Trust(INTER, partial_chain=False), LEAF) is FailureInfo.SIGNER_NOT_TRUSTED


def test_an_end_entity_issues_nothing() -> None:
    below = certificate("below", key("ec384"), "device", key())
    assert _failure(Trust(ROOT), below, LEAF, INTER) is FailureInfo.SIGNER_NOT_TRUSTED


def test_time_counts_also_for_remembered_paths() -> None:
    trust = Trust(ROOT)
    assert trust.path(der(LEAF), [der(INTER)], NOW)
    for moment in (
        NOW + 31 * DAY,
        NOW - 2 * DAY,
        (NOW + 31 * DAY).replace(tzinfo=None),
        (NOW + 31 * DAY).timestamp(),
    ):
        assert _failure(trust, LEAF, INTER, at=moment) is FailureInfo.SIGNER_NOT_TRUSTED
        assert trust.path(der(LEAF), [der(INTER)], NOW)


def test_revoked_certificates_are_told_from_untrusted_ones(tmp_path: Path) -> None:
    by_inter = crl("intermediate", INTER_KEY, LEAF)
    clean = crl("intermediate", INTER_KEY)
    by_root = crl("root", ROOT_KEY, INTER)
    path = tmp_path / "crls.pem"
    path.write_bytes(by_inter.public_bytes(Encoding.PEM) + by_root.public_bytes(Encoding.PEM))
    for source in by_inter, by_inter.public_bytes(Encoding.DER), by_inter.public_bytes(Encoding.PEM), path:
        assert _failure(Trust(ROOT, crls=[source]), LEAF, INTER) is FailureInfo.CERT_REVOKED
    assert Trust(ROOT, crls=[clean]).path(der(LEAF), [der(INTER)])
    # The CRL of the root is looked at where there is one ...
    assert _failure(Trust(ROOT, crls=[clean, by_root]), LEAF, INTER) is FailureInfo.CERT_REVOKED
    # ... the leaf's own issuer must have given one, and with revocation="path" everybody.
    assert _failure(Trust(ROOT, crls=[crl("root", ROOT_KEY)]), LEAF, INTER) is FailureInfo.SIGNER_NOT_TRUSTED
    assert _failure(Trust(ROOT, crls=[clean], revocation="path"), LEAF, INTER) is FailureInfo.SIGNER_NOT_TRUSTED
    every = [clean, crl("root", ROOT_KEY)]
    assert Trust(ROOT, crls=every, revocation="path").path(der(LEAF), [der(INTER)])
    assert _failure(Trust(ROOT, revocation="path"), LEAF, INTER) is FailureInfo.SIGNER_NOT_TRUSTED


def test_an_outdated_crl_ends_a_remembered_path() -> None:
    trust = Trust(ROOT, crls=[crl("intermediate", INTER_KEY, end=NOW + datetime.timedelta(minutes=1))])
    assert trust.path(der(LEAF), [der(INTER)], NOW)
    assert _failure(trust, LEAF, INTER, at=NOW + datetime.timedelta(minutes=2)) is FailureInfo.SIGNER_NOT_TRUSTED


def test_a_crl_of_a_stranger_revokes_nothing() -> None:
    forged = crl("intermediate", key("ec384"), LEAF)
    assert _failure(Trust(ROOT, crls=[forged]), LEAF, INTER) is FailureInfo.SIGNER_NOT_TRUSTED


def test_weak_certificates_are_not_trusted() -> None:
    sha1 = certificate("device", key(), "intermediate", INTER_KEY, digest=hashes.SHA224())
    small = certificate("small", key("rsa1024"), "intermediate", INTER_KEY)
    assert Trust(ROOT).path(der(sha1), [der(INTER)])
    assert _failure(Trust(ROOT), small, INTER) is FailureInfo.BAD_ALG
    assert Trust(ROOT, security_level=1).path(der(small), [der(INTER)])
    assert _failure(Trust(ROOT, security_level=3), sha1, INTER) is FailureInfo.SIGNER_NOT_TRUSTED


def test_strict_asks_for_what_rfc_5280_does() -> None:
    bare = certificate("device", key(), "intermediate", INTER_KEY, authority_id=False)
    assert Trust(ROOT).path(der(bare), [der(INTER)])
    assert _failure(Trust(ROOT, strict=True), bare, INTER) is FailureInfo.SIGNER_NOT_TRUSTED


def test_depth_bounds_a_path() -> None:
    assert _failure(Trust(ROOT, depth=0), LEAF, INTER) is FailureInfo.SIGNER_NOT_TRUSTED
    assert Trust(ROOT, depth=1).path(der(LEAF), [der(INTER)])


def test_nonsense_among_extra_certs_changes_nothing() -> None:
    noise = [der(certificate(f"noise {i}", key("ec384"), ca=True)) for i in range(3)]
    junk = [b"\x30\x00", b"junk", b""]
    assert Trust(ROOT).path(der(LEAF), [*junk, *noise, der(INTER), der(LEAF)]) == (der(LEAF), der(INTER), der(ROOT))


def test_a_damaged_copy_of_a_known_intermediate_hides_nothing() -> None:
    damaged = der(INTER)[:-1] + bytes((der(INTER)[-1] ^ 1,))
    assert _failure(Trust(ROOT), LEAF, x509.load_der_x509_certificate(damaged)) is FailureInfo.SIGNER_NOT_TRUSTED
    assert Trust(ROOT, untrusted=[INTER]).path(der(LEAF), [damaged])[1] == der(INTER)


def test_two_cas_of_one_name_are_told_apart() -> None:
    other = certificate("intermediate", key("ec384"), "root", ROOT_KEY, ca=True)
    assert Trust(ROOT).path(der(LEAF), [der(other), der(INTER)])[1] == der(INTER)


def test_a_leaf_that_does_not_decode_is_not_trusted() -> None:
    with pytest.raises(ProtectionError):
        Trust(ROOT).path(b"\x30\x00")


def _watch(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The leaves that paths are built for from now on."""
    built: list[bytes] = []

    def build(self: Trust, leaf: bytes, *rest: Any) -> tuple[bytes, ...]:
        built.append(leaf)
        return leaf, der(ROOT)

    monkeypatch.setattr(Trust, "_build", build)
    return built


def test_paths_are_remembered_until_forgotten_and_in_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    trust = Trust(ROOT, untrusted=[INTER], cache_size=2)
    built = _watch(monkeypatch)
    leaves = [der(device()) for _ in range(3)]
    for leaf in (leaves[0], leaves[0], leaves[1], leaves[2], leaves[0]):
        trust.path(leaf)
    assert built == [leaves[0], leaves[1], leaves[2], leaves[0]]
    trust.forget(leaves[0])
    trust.path(leaves[0])
    trust.path(leaves[2])
    assert built[4:] == [leaves[0]]
    trust.forget()
    trust.path(leaves[2])
    assert built[5:] == [leaves[2]]


def test_a_remembered_path_counts_only_for_messages_that_bring_its_intermediates() -> None:
    trust = Trust(ROOT)
    assert len(trust.path(der(LEAF), [der(INTER)])) == 3
    assert len(trust.path(der(LEAF), [der(ROOT), der(INTER)])) == 3
    assert _failure(trust, LEAF) is FailureInfo.SIGNER_NOT_TRUSTED
    assert len(trust.path(der(LEAF), [der(INTER)])) == 3


def test_a_remembered_path_is_built_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    trust = Trust(ROOT, untrusted=[INTER], cache_seconds=60)
    built = _watch(monkeypatch)
    for seconds in 0, 59, 61, 62:
        trust.path(der(LEAF), (), NOW.timestamp() + seconds)
    assert len(built) == 2


def test_trust_without_anchors_or_with_nonsense_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Trust([])
    with pytest.raises(ValueError, match="no certificate"):
        Trust([b"nonsense"])
    with pytest.raises(ValueError, match="no CRL"):
        Trust(ROOT, crls=[b"-----BEGIN nothing"])
    with pytest.raises(ValueError, match=r"."):
        Trust(ROOT, crls=[b"nonsense"])
    assert repr(Trust(ROOT)) == "<Trust 1 anchors, 0 CRLs>"


def test_what_openssl_does_not_read_is_the_callers_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = der(LEAF)
    monkeypatch.setattr(certificates, "load_certificates", lambda source: [broken[:-1]])
    with pytest.raises(ValueError, match="OpenSSL does not read this certificate"):
        Trust(ROOT)
    with pytest.raises(ValueError, match="OpenSSL does not read this CRL"):
        certificates._native_crl(broken)
    for whole, read in (
        (broken, certificates._native_certificate),
        (der(crl("root", ROOT_KEY)), certificates._native_crl),
    ):
        assert read(whole)
        with pytest.raises(ValueError, match="bytes follow"):
            read(whole + b"\0")
    assert lib.ERR_peek_error() == 0


def test_eight_threads_share_one_trust() -> None:
    trust = Trust(ROOT)
    leaves = [der(device()) for _ in range(4)]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for number in range(60):
                assert len(trust.path(leaves[number % 4], [der(INTER)])) == 3
                if number % 3 == 0:
                    trust.forget()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_certificate_or_crl_of_an_unknown_version_is_a_value_error() -> None:
    certificate = der(ROOT).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1)
    with pytest.raises(ValueError, match=r"."):
        load_certificate(certificate)
    revoked = crl("root", key("ec"))
    with pytest.raises(ValueError, match="version"):
        Trust(ROOT, crls=[revoked.public_bytes(Encoding.DER).replace(b"\x02\x01\x01", b"\x02\x01\x09", 1)])
