"""Bodies that ``openssl cmp`` cannot send, read by an independent decoder; and what must not decode."""

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.asn1 import Variant
from hypothesis import given, settings
from hypothesis import strategies as st
from pyasn1.codec.der import decoder  # type: ignore[import-untyped]
from pyasn1_alt_modules import rfc9810  # type: ignore[import-untyped]

from opensslcmp.asn1 import (
    BitString,
    CAKeyUpdAnnContent,
    CertId,
    CertificationRequest,
    CertifiedKeyPair,
    CertRepMessage,
    CertReqMsg,
    CertRequest,
    CertResponse,
    CertStatus,
    CertTemplate,
    Challenge,
    EncryptedValue,
    ErrorMsgContent,
    Extension,
    InfoTypeAndValue,
    KeyRecRepContent,
    Null,
    OptionalValidity,
    PKIPublicationInfo,
    PKIStatusInfo,
    PKMACValue,
    PollRep,
    PollReq,
    POPOPrivKey,
    POPOSigningKey,
    POPOSigningKeyInput,
    RevAnnContent,
    RevDetails,
    RevRepContent,
    RootCaKeyUpdateContent,
    SinglePubInfo,
    SubjectPublicKeyInfo,
    algorithm,
    decode,
    decode_body,
    der,
    directory_name,
    encode,
    encode_body,
    encrypted_value,
    enveloped_data,
    enveloped_key,
    general_time,
    time,
    tlv,
    wrap,
)
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage

NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")]).public_bytes()
MOMENT = datetime(2026, 5, 4, 3, 2, 1, 999, UTC)
SHA256 = algorithm("2.16.840.1.101.3.4.2.1")
ECDSA = algorithm("1.2.840.10045.4.3.2")
SPKI = SubjectPublicKeyInfo(
    algorithm=algorithm("1.2.840.10045.2.1", bytes.fromhex("06082a8648ce3d030107")),
    subject_public_key=BitString(b"\x04" + bytes(64), 0),
)
SIGNATURE = BitString(bytes(70), 0)
# The shape of a certificate is all that matters here.
CERTIFICATE = wrap(
    0x30,
    wrap(
        0x30,
        bytes.fromhex("a003020102020105")
        + encode(ECDSA)
        + NAME
        + wrap(0x30, encode(time(MOMENT)) * 2)
        + NAME
        + encode(SPKI),
    )
    + encode(ECDSA)
    + encode(SIGNATURE),
)
CRL = wrap(
    0x30,
    wrap(0x30, bytes.fromhex("020101") + encode(ECDSA) + NAME + encode(time(MOMENT)))
    + encode(ECDSA)
    + encode(SIGNATURE),
)
ENVELOPED = wrap(
    0x30, bytes.fromhex("020102") + wrap(0x31, b"") + wrap(0x30, bytes.fromhex("06032a0304") + encode(SHA256))
)
FULL_TEMPLATE = CertTemplate(
    version=2,
    serial_number=-7,
    signing_alg=ECDSA,
    issuer=tlv(NAME),
    validity=OptionalValidity(not_before=time(MOMENT), not_after=time(MOMENT.replace(year=2051))),
    subject=tlv(NAME),
    public_key=SPKI,
    issuer_uid=BitString(b"\x80", 7),
    subject_uid=BitString(b"\x01", 0),
    extensions=[
        Extension(extn_id=x509.ObjectIdentifier("2.5.29.15"), critical=True, extn_value=bytes.fromhex("03020780")),
        Extension(extn_id=x509.ObjectIdentifier("2.5.29.14"), extn_value=b"\x04\x01\x05"),
    ],
)


def request(popo: Any = None, **template: Any) -> CertReqMsg:
    return CertReqMsg(
        cert_req=CertRequest(cert_req_id=0, cert_template=CertTemplate(subject=tlv(NAME), public_key=SPKI, **template)),
        popo=popo,
    )


MESSAGE = bytes.fromhex("3000")
REQUESTS = [
    request(Variant(Null(), "raVerified")),
    request(Variant(POPOSigningKey(algorithm_identifier=ECDSA, signature=SIGNATURE), "signature")),
    request(
        Variant(
            POPOSigningKey(
                poposk_input=POPOSigningKeyInput(auth_info=Variant(directory_name(NAME), "sender"), public_key=SPKI),
                algorithm_identifier=ECDSA,
                signature=SIGNATURE,
            ),
            "signature",
        )
    ),
    request(
        Variant(
            POPOSigningKey(
                poposk_input=POPOSigningKeyInput(
                    auth_info=Variant(PKMACValue(alg_id=SHA256, value=SIGNATURE), "publicKeyMAC"), public_key=SPKI
                ),
                algorithm_identifier=ECDSA,
                signature=SIGNATURE,
            ),
            "signature",
        )
    ),
    request(Variant(POPOPrivKey(value=Variant(1, "subsequentMessage")).to_tlv(), "keyEncipherment")),
    request(Variant(POPOPrivKey(value=Variant(BitString(b"abc", 0), "dhMAC")).to_tlv(), "keyAgreement")),
    request(
        Variant(
            POPOPrivKey(value=Variant(PKMACValue(alg_id=SHA256, value=SIGNATURE), "agreeMAC")).to_tlv(), "keyAgreement"
        )
    ),
    request(Variant(tlv(b"\xa4" + ENVELOPED[1:]), "keyEncipherment")),
    CertReqMsg(cert_req=CertRequest(cert_req_id=2**70, cert_template=FULL_TEMPLATE)),
]
REJECTED = PKIStatusInfo.make(PKIStatus.REJECTION, "no", "nö", failure=FailureInfo.BAD_POP)
WAITING = PKIStatusInfo.make(PKIStatus.WAITING)
ANSWER = CertRepMessage(
    ca_pubs=[tlv(CERTIFICATE), tlv(CERTIFICATE)],
    response=[
        CertResponse(cert_req_id=-1, status=REJECTED, rsp_info=b"info"),
        CertResponse(cert_req_id=0, status=WAITING, certified_key_pair=CertifiedKeyPair.of(CERTIFICATE)),
        CertResponse(
            cert_req_id=1,
            status=WAITING,
            certified_key_pair=CertifiedKeyPair(
                cert_or_enc_cert=Variant(enveloped_key(ENVELOPED), "encryptedCert"),
                private_key=tlv(encode(EncryptedValue(symm_alg=SHA256, enc_value=SIGNATURE))),
                publication_info=PKIPublicationInfo(
                    action=1, pub_infos=[SinglePubInfo(pub_method=2, pub_location=directory_name(NAME))]
                ),
            ),
        ),
    ],
)

# Every body: what goes in, and the independent decoder's name for it.
BODIES: list[tuple[BodyType, Any, str]] = [
    *[(body_type, REQUESTS, "CertReqMessages") for body_type in (BodyType.IR, BodyType.KRR, BodyType.CCR)],
    *[(body_type, ANSWER, "CertRepMessage") for body_type in (BodyType.IP, BodyType.CCP)],
    (
        BodyType.POPDECC,
        [
            Challenge(owf=SHA256, witness=b"w", challenge=b"c"),
            Challenge(witness=b"w", challenge=b"", encrypted_rand=tlv(ENVELOPED)),
        ],
        "POPODecKeyChallContent",
    ),
    (BodyType.POPDECR, [0, -1, 2**200], "POPODecKeyRespContent"),
    (
        BodyType.KRP,
        KeyRecRepContent(
            status=WAITING,
            new_sig_cert=tlv(CERTIFICATE),
            ca_certs=[tlv(CERTIFICATE)],
            key_pair_hist=[
                CertifiedKeyPair.of(CERTIFICATE),
                CertifiedKeyPair(
                    cert_or_enc_cert=Variant(tlv(encode(EncryptedValue(enc_value=SIGNATURE))), "encryptedCert")
                ),
            ],
        ),
        "KeyRecRepContent",
    ),
    (
        BodyType.RR,
        [RevDetails(cert_details=FULL_TEMPLATE, crl_entry_details=FULL_TEMPLATE.extensions)],
        "RevReqContent",
    ),
    (
        BodyType.RP,
        RevRepContent(status=[REJECTED, WAITING], rev_certs=[CertId.make(NAME, 5)], crls=[tlv(CRL)]),
        "RevRepContent",
    ),
    (
        BodyType.CKUANN,
        CAKeyUpdAnnContent(old_with_new=tlv(CERTIFICATE), new_with_old=tlv(CERTIFICATE), new_with_new=tlv(CERTIFICATE)),
        "CAKeyUpdContent",
    ),
    (
        BodyType.CKUANN,
        RootCaKeyUpdateContent(
            new_with_new=tlv(CERTIFICATE), new_with_old=tlv(CERTIFICATE), old_with_new=tlv(CERTIFICATE)
        ),
        "CAKeyUpdContent",
    ),
    (BodyType.CANN, CERTIFICATE, "CertAnnContent"),
    (
        BodyType.RANN,
        RevAnnContent(
            status=4,
            cert_id=CertId.make(NAME, 5),
            will_be_revoked_at=general_time(MOMENT),
            bad_since_date=general_time(MOMENT),
            crl_details=FULL_TEMPLATE.extensions,
        ),
        "RevAnnContent",
    ),
    (BodyType.CRLANN, [CRL, CRL], "CRLAnnContent"),
    (BodyType.PKICONF, None, "PKIConfirmContent"),
    (BodyType.GENM, [InfoTypeAndValue.make("1.2.3"), InfoTypeAndValue.make("1.2.4", b"\x05\x00")], "GenMsgContent"),
    (BodyType.GENP, [], "GenRepContent"),
    (
        BodyType.ERROR,
        ErrorMsgContent(pki_status_info=REJECTED, error_code=-5, error_details=["why"]),
        "ErrorMsgContent",
    ),
    (
        BodyType.CERT_CONF,
        [
            CertStatus(cert_hash=bytes(32), cert_req_id=0),
            CertStatus(cert_hash=b"", cert_req_id=-1, status_info=REJECTED, hash_alg=SHA256),
        ],
        "CertConfirmContent",
    ),
    (BodyType.CERT_CONF, [], "CertConfirmContent"),
    (BodyType.POLL_REQ, [PollReq(cert_req_id=-1)], "PollReqContent"),
    (BodyType.POLL_REP, [PollRep(cert_req_id=-1, check_after=60, reason=["queue"])], "PollRepContent"),
]


@pytest.mark.parametrize(("body_type", "content", "independent"), BODIES)
def test_body_is_what_the_module_of_the_rfc_says(body_type: BodyType, content: Any, independent: str) -> None:
    body = encode_body(body_type, content)
    _, rest = decoder.decode(body, asn1Spec=getattr(rfc9810, independent)())
    assert rest == b""
    assert encode_body(body_type, decode_body(body_type, body)) == body


@pytest.mark.parametrize("body_type", list(BodyType))
def test_every_body_type_is_decoded_or_refused_as_bad_data(body_type: BodyType) -> None:
    for body in (b"", b"\x05", b"\x02\x01\x05", b"\x30\x80\x00\x00", b"\x30\x01", b"\x30\x84\xff\xff\xff\xff"):
        with pytest.raises(BadMessage) as caught:
            decode_body(body_type, body)
        assert caught.value.failure is FailureInfo.BAD_DATA_FORMAT


@pytest.mark.parametrize("body_type", [BodyType.IR, BodyType.CR, BodyType.KUR, BodyType.NESTED])
def test_body_with_at_least_one_item_is_refused_when_empty(body_type: BodyType) -> None:
    with pytest.raises(BadMessage, match="badDataFormat"):
        decode_body(body_type, b"\x30\x00")


def test_nested_messages_come_as_bytes() -> None:
    assert decode_body(BodyType.NESTED, encode_body(BodyType.NESTED, [MESSAGE, MESSAGE])) == [MESSAGE, MESSAGE]


def test_ready_der_passes_through_encode_body() -> None:
    assert encode_body(BodyType.GENM, b"\x30\x00") == b"\x30\x00"


def test_csr_keeps_what_its_signature_covers() -> None:
    info = wrap(0x30, bytes.fromhex("020100") + NAME + encode(SPKI) + bytes.fromhex("a000"))
    csr = decode_body(BodyType.P10CR, wrap(0x30, info + encode(ECDSA) + encode(SIGNATURE)))
    assert isinstance(csr, CertificationRequest)
    assert der(csr.certification_request_info) == info
    assert csr.info.version == 0
    assert der(csr.info.subject) == NAME
    assert encode(csr.info.subject_pk_info) == encode(SPKI)
    assert csr.info.attributes is not None
    assert der(csr.info.attributes) == b"\xa0\x00"


def test_proofs_for_keys_that_cannot_sign() -> None:
    items = decode_body(BodyType.IR, encode_body(BodyType.IR, REQUESTS))
    proofs = [POPOPrivKey.from_tlv(item.popo.value) for item in items if item.popo and item.popo.tag.startswith("key")]
    assert [proof.value.tag for proof in proofs] == ["subsequentMessage", "dhMAC", "agreeMAC", "encryptedKey"]
    assert proofs[0].value.value == 1
    assert [proof.enveloped for proof in proofs] == [None, None, None, ENVELOPED]
    with pytest.raises(ValueError, match="POPOPrivKey"):
        POPOPrivKey.from_tlv(tlv(b"\x02\x01\x05"))


def test_signing_proof_with_its_own_input() -> None:
    items = decode_body(BodyType.IR, encode_body(BodyType.IR, REQUESTS))
    plain, by_sender, by_mac = (item.popo.value for item in items[1:4])
    assert plain.signed_input is None
    assert by_sender.poposk_input.sender == NAME
    assert by_mac.poposk_input.sender is None
    assert by_sender.signed_input[:1] == b"\x30"


def test_encrypted_keys_are_told_apart() -> None:
    answer = decode_body(BodyType.IP, encode_body(BodyType.IP, ANSWER))
    refused, clear, hidden = answer.response
    assert refused.certificate is None
    assert clear.certificate == CERTIFICATE
    assert hidden.certificate is None
    pair = hidden.certified_key_pair
    assert enveloped_data(pair.cert_or_enc_cert.value) == ENVELOPED
    assert encrypted_value(pair.cert_or_enc_cert.value) is None
    assert enveloped_data(pair.private_key) is None
    value = encrypted_value(pair.private_key)
    assert value is not None
    assert value.symm_alg is not None


def test_template_gives_bytes_as_they_stand() -> None:
    template = decode(CertTemplate, encode(FULL_TEMPLATE))
    assert (template.issuer_der, template.subject_der, template.public_key_der) == (NAME, NAME, encode(SPKI))
    assert not template.asks_for_key
    empty = CertTemplate()
    assert (empty.issuer_der, empty.subject_der, empty.public_key_der) == (None, None, None)
    assert empty.asks_for_key
    algorithm_only = SubjectPublicKeyInfo(algorithm=SPKI.algorithm, subject_public_key=BitString(b"", 0))
    assert CertTemplate(public_key=algorithm_only).asks_for_key


def test_controls_are_found_by_type() -> None:
    from opensslcmp.asn1 import AttributeTypeAndValue, oids

    control = AttributeTypeAndValue(
        type=x509.ObjectIdentifier(oids.REG_CTRL_OLD_CERT_ID), value=tlv(encode(CertId.make(NAME, 9)))
    )
    asked = CertRequest(cert_req_id=0, cert_template=CertTemplate(), controls=[control])
    found = asked.control(oids.REG_CTRL_OLD_CERT_ID)
    assert found is not None
    assert found.parse(CertId).serial_number == 9
    assert found.parse(CertId).issuer_der == NAME
    assert asked.control("1.2.3") is None
    assert CertRequest(cert_req_id=0, cert_template=CertTemplate()).control("1.2.3") is None


@given(st.sets(st.sampled_from(FailureInfo)))
@settings(max_examples=60)
def test_failure_bits_survive_and_have_no_trailing_zeros(failures: set[FailureInfo]) -> None:
    status = PKIStatusInfo.make(PKIStatus.REJECTION, failures=failures)
    again = decode(PKIStatusInfo, encode(status))
    assert again.failures == tuple(sorted(failures))
    if again.fail_info is not None:
        assert int.from_bytes(again.fail_info.as_bytes(), "big") >> again.fail_info.padding_bits() & 1


def test_status_keeps_its_words() -> None:
    assert decode(PKIStatusInfo, encode(REJECTED)).text == ("no", "nö")
    assert WAITING.text == ()
    assert WAITING.failures == ()


@pytest.mark.parametrize(
    ("body_type", "content"),
    [
        (BodyType.IP, CertRepMessage(ca_pubs=[tlv(b"\x05\x00")], response=[])),
        (
            BodyType.CP,
            CertRepMessage(
                response=[
                    CertResponse(cert_req_id=0, status=WAITING, certified_key_pair=CertifiedKeyPair.of(b"\x04\x00"))
                ]
            ),
        ),
        (BodyType.CKUANN, RootCaKeyUpdateContent(new_with_new=tlv(b"\x05\x00"))),
        (BodyType.KRP, KeyRecRepContent(status=WAITING, new_sig_cert=tlv(b"\x05\x00"))),
        (BodyType.KRP, KeyRecRepContent(status=WAITING, key_pair_hist=[CertifiedKeyPair.of(b"\x05\x00")])),
        (BodyType.CANN, b"\x05\x00"),
        (BodyType.CRLANN, [b"\x05\x00"]),
    ],
)
def test_certificate_that_is_no_sequence_is_bad_data(body_type: BodyType, content: Any) -> None:
    with pytest.raises(BadMessage, match="badDataFormat"):
        decode_body(body_type, encode_body(body_type, content))
