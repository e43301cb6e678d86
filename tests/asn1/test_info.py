"""Every infoType's value, there and back, and read by an independent decoder."""

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.asn1 import Variant
from pyasn1.codec.der import decoder  # type: ignore[import-untyped]
from pyasn1.type import char, univ, useful  # type: ignore[import-untyped]
from pyasn1_alt_modules import rfc9810  # type: ignore[import-untyped]

from opensslcmp.asn1 import (
    CAKeyUpdAnnContent,
    CertReqTemplateContent,
    CertTemplate,
    CRLStatus,
    InfoTypeAndValue,
    KemCiphertextInfo,
    KemOtherInfo,
    Null,
    RootCaKeyUpdateContent,
    algorithm,
    decode,
    decode_info,
    der,
    encode,
    encode_info,
    key_spec,
    oids,
    tlv,
    wrap,
)
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage

NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")]).public_bytes()
MOMENT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
ALGORITHM = algorithm("1.2.840.10045.2.1", bytes.fromhex("06082a8648ce3d030107"))
ECDSA = algorithm(oids.ECDSA_WITH_SHA256)
SPKI = wrap(0x30, encode(ALGORITHM) + b"\x03\x02\x00\x04")
TIME = b"\x17\x0d260504030201Z"
CERTIFICATE = wrap(
    0x30,
    wrap(0x30, bytes.fromhex("a003020102020105") + encode(ECDSA) + NAME + wrap(0x30, TIME * 2) + NAME + SPKI)
    + encode(ECDSA)
    + b"\x03\x01\x00",
)
CRL = wrap(0x30, wrap(0x30, bytes.fromhex("020101") + encode(ECDSA) + NAME + TIME) + encode(ECDSA) + b"\x03\x01\x00")
MESSAGE = b"\x30\x00"

VALUES: list[tuple[str, Any, Any]] = [
    (oids.IT_CA_PROT_ENC_CERT, CERTIFICATE, rfc9810.CMPCertificate()),
    (oids.IT_SIGN_KEY_PAIR_TYPES, [ALGORITHM, ECDSA], rfc9810.SignKeyPairTypesValue()),
    (oids.IT_ENC_KEY_PAIR_TYPES, [ALGORITHM], rfc9810.EncKeyPairTypesValue()),
    (oids.IT_PREFERRED_SYMM_ALG, ALGORITHM, rfc9810.AlgorithmIdentifier()),
    (
        oids.IT_CA_KEY_UPDATE_INFO,
        CAKeyUpdAnnContent(old_with_new=tlv(CERTIFICATE), new_with_old=tlv(CERTIFICATE), new_with_new=tlv(CERTIFICATE)),
        rfc9810.CAKeyUpdAnnContent(),
    ),
    (oids.IT_CURRENT_CRL, CRL, rfc9810.CertificateList()),
    (oids.IT_UNSUPPORTED_OIDS, ["1.2.3", "1.2.4"], univ.SequenceOf(componentType=univ.ObjectIdentifier())),
    (oids.IT_KEY_PAIR_PARAM_REQ, "1.2.840.10045.2.1", univ.ObjectIdentifier()),
    (oids.IT_KEY_PAIR_PARAM_REP, ALGORITHM, rfc9810.AlgorithmIdentifier()),
    (oids.IT_REV_PASSPHRASE, tlv(wrap(0x30, b"\x03\x02\x00\x01")), rfc9810.EncryptedKey()),
    (oids.IT_IMPLICIT_CONFIRM, Null(), univ.Null()),
    (oids.IT_CONFIRM_WAIT_TIME, MOMENT, useful.GeneralizedTime()),
    (oids.IT_ORIG_PKI_MESSAGE, [MESSAGE, MESSAGE], None),
    (oids.IT_SUPP_LANG_TAGS, ["en", "de"], univ.SequenceOf(componentType=char.UTF8String())),
    (oids.IT_CA_CERTS, [CERTIFICATE, CERTIFICATE], univ.SequenceOf(componentType=rfc9810.CMPCertificate())),
    (
        oids.IT_ROOT_CA_KEY_UPDATE,
        RootCaKeyUpdateContent(new_with_new=tlv(CERTIFICATE), new_with_old=tlv(CERTIFICATE)),
        rfc9810.RootCaKeyUpdateContent(),
    ),
    (
        oids.IT_CERT_REQ_TEMPLATE,
        CertReqTemplateContent(
            cert_template=CertTemplate(subject=tlv(NAME)), key_spec=[key_spec(ALGORITHM), key_spec(2048)]
        ),
        rfc9810.CertReqTemplateContent(),
    ),
    (oids.IT_ROOT_CA_CERT, CERTIFICATE, rfc9810.CMPCertificate()),
    (oids.IT_CERT_PROFILE, ["tls"], univ.SequenceOf(componentType=char.UTF8String())),
    (
        oids.IT_CRL_STATUS_LIST,
        [CRLStatus.of_issuer(NAME, MOMENT), CRLStatus.of_url("http://crl.example/ca.crl")],
        univ.SequenceOf(componentType=rfc9810.CRLStatus()),
    ),
    (oids.IT_CRLS, [CRL], univ.SequenceOf(componentType=rfc9810.CertificateList())),
    (oids.IT_KEM_CIPHERTEXT_INFO, KemCiphertextInfo(kem=ECDSA, ct=b"ct"), rfc9810.KemCiphertextInfo()),
]
IDS = [oids.name_of(oid) for oid, _, _ in VALUES]


@pytest.mark.parametrize(("oid", "value", "independent"), VALUES, ids=IDS)
def test_value_goes_there_and_back(oid: str, value: Any, independent: Any) -> None:
    item = encode_info(oid, value)
    again = decode(InfoTypeAndValue, encode(item))
    assert encode(encode_info(oid, decode_info(again))) == encode(item)
    if isinstance(value, bytes | str | datetime) or oid in (oids.IT_CERT_PROFILE, oids.IT_CRLS, oids.IT_CA_CERTS):
        assert decode_info(again) == value
    if independent is not None:
        _, rest = decoder.decode(item.value_der, asn1Spec=independent)
        assert rest == b""


@pytest.mark.parametrize(("oid", "value", "independent"), VALUES, ids=IDS)
def test_request_without_value_is_none(oid: str, value: Any, independent: Any) -> None:
    assert decode_info(encode_info(oid)) is None


@pytest.mark.parametrize(("oid", "value", "independent"), VALUES, ids=IDS)
@pytest.mark.parametrize("bad", [b"\x04\x01a", b"\x31\x00", b"\x30\x02\x04\x00", b"\x01\x01\xff"])
def test_value_of_another_type_is_bad_data(oid: str, value: Any, independent: Any, bad: bytes) -> None:
    raw = (oids.IT_REV_PASSPHRASE, *[o for o, v, _ in VALUES if isinstance(v, bytes)])
    if oid in raw and (bad[:1] == b"\x30" or oid == oids.IT_REV_PASSPHRASE):
        return
    with pytest.raises(BadMessage) as caught:
        decode_info(InfoTypeAndValue.make(oid, bad))
    assert caught.value.failure is FailureInfo.BAD_DATA_FORMAT


@pytest.mark.parametrize("oid", [oids.IT_CA_CERTS, oids.IT_CRLS, oids.IT_SUPP_LANG_TAGS, oids.IT_CRL_STATUS_LIST])
def test_list_without_items_is_bad_data(oid: str) -> None:
    with pytest.raises(BadMessage, match="badDataFormat"):
        decode_info(InfoTypeAndValue.make(oid, b"\x30\x00"))


def test_lists_are_bounded() -> None:
    item = encode_info(oids.IT_CERT_PROFILE, ["p"] * 11)
    assert len(decode_info(item, max_items=11)) == 11
    with pytest.raises(BadMessage, match="more than 10"):
        decode_info(item, max_items=10)


def test_unknown_types_stay_raw() -> None:
    value = decode_info(encode_info("1.2.3.4", b"\x02\x01\x05"))
    assert der(value) == b"\x02\x01\x05"


def test_crl_status_is_read_either_way() -> None:
    by_issuer = CRLStatus.of_issuer(NAME, MOMENT)
    assert (by_issuer.issuers, by_issuer.urls, by_issuer.newer_than) == ((NAME,), (), MOMENT)
    by_url = CRLStatus.of_url("http://crl.example/ca.crl")
    assert (by_url.issuers, by_url.urls, by_url.newer_than) == ((), ("http://crl.example/ca.crl",), None)
    by_relative_name = CRLStatus(source=Variant(tlv(b"\xa1\x00"), "dpn"))
    assert by_relative_name.urls == ()


def test_key_spec_tells_algorithms_and_rsa_lengths() -> None:
    content = CertReqTemplateContent(cert_template=CertTemplate(), key_spec=[key_spec(ECDSA), key_spec(3072)])
    first, second = content.keys
    assert not isinstance(first, int)
    assert first.oid == oids.ECDSA_WITH_SHA256
    assert second == 3072
    assert CertReqTemplateContent(cert_template=CertTemplate()).keys == ()


def test_key_spec_that_does_not_decode_is_bad_data() -> None:
    from opensslcmp.asn1 import AttributeTypeAndValue

    wrong = AttributeTypeAndValue(type=x509.ObjectIdentifier(oids.REG_CTRL_RSA_KEY_LEN), value=tlv(b"\x05\x00"))
    other = AttributeTypeAndValue(type=x509.ObjectIdentifier("1.2.3"), value=tlv(b"\x05\x00"))
    assert CertReqTemplateContent(cert_template=CertTemplate(), key_spec=[other]).keys == ()
    with pytest.raises(BadMessage, match="keySpec"):
        _ = CertReqTemplateContent(cert_template=CertTemplate(), key_spec=[wrong]).keys


def test_kem_other_info_is_what_the_rfc_says() -> None:
    other = KemOtherInfo(static_string=["CMP-KEM"], transaction_id=bytes(16), kem_context=b"c")
    _, rest = decoder.decode(encode(other), asn1Spec=rfc9810.KemOtherInfo())
    assert rest == b""


def test_names_of_oids_are_unique_and_default_to_the_dots() -> None:
    assert oids.name_of(oids.IT_CA_CERTS) == "id-it-caCerts"
    assert oids.name_of("1.2.3.4.5") == "1.2.3.4.5"
    named = [oids.name_of(getattr(oids, name)) for name in oids.__all__ if name.isupper()]
    assert len(set(named)) == len(named)
    assert not [name for name in named if name[0].isdigit()]
