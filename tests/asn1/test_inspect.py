"""A message in words: what it says of real messages, which broken rule it finds, and that garbage does it no harm."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.asn1 import Variant
from hypothesis import given, settings
from hypothesis import strategies as st

from opensslcmp.asn1 import (
    NULL_DN,
    AttributeTypeAndValue,
    BitString,
    CertId,
    CertifiedKeyPair,
    CertRepMessage,
    CertReqMsg,
    CertRequest,
    CertResponse,
    CertStatus,
    CertTemplate,
    CRLStatus,
    ErrorMsgContent,
    Extension,
    InfoTypeAndValue,
    KemBMParameter,
    Null,
    PBKDF2Params,
    PBMAC1Params,
    PBMParameter,
    PKIHeader,
    PKIStatusInfo,
    PollRep,
    PollReq,
    POPOSigningKey,
    POPOSigningKeyInput,
    RevDetails,
    RevRepContent,
    RootCaKeyUpdateContent,
    SubjectPublicKeyInfo,
    TBSCertificate,
    Validity,
    admit,
    algorithm,
    assemble,
    attach_signature,
    decode,
    describe,
    directory_name,
    encode,
    encode_body,
    encode_info,
    make_header,
    oids,
    protected_part,
    render,
    tlv,
    wrap,
)
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.errors import BadMessage

MESSAGES = {path.stem: path.read_bytes() for path in (Path(__file__).parent.parent / "data" / "cmp").glob("*.der")}
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")]).public_bytes()
MOMENT = datetime(2026, 5, 4, tzinfo=UTC)
SHA256 = algorithm(oids.SHA256)
HMAC = algorithm(oids.HMAC_SHA256)
ECDSA = algorithm(oids.ECDSA_WITH_SHA256)
SPKI = SubjectPublicKeyInfo(
    algorithm=algorithm(oids.EC_PUBLIC_KEY, bytes.fromhex("06082a8648ce3d030107")),
    subject_public_key=BitString(b"\x04" + bytes(64), 0),
)
TEMPLATE = CertTemplate(subject=tlv(NAME), public_key=SPKI)
SIGNED: Any = Variant(POPOSigningKey(algorithm_identifier=ECDSA, signature=BitString(bytes(70), 0)), "signature")
ACCEPTED = PKIStatusInfo.make(PKIStatus.ACCEPTED)
REJECTED = PKIStatusInfo.make(PKIStatus.REJECTION, failure=FailureInfo.BAD_POP)
REASON = Extension(extn_id=x509.ObjectIdentifier(oids.EXT_CRL_REASON), extn_value=b"\x0a\x01\x01")


def extension(oid: str, value: bytes) -> Extension:
    return Extension(extn_id=x509.ObjectIdentifier(oid), extn_value=value)


def certificate(*extensions: Extension, subject: bytes = NAME, key: SubjectPublicKeyInfo = SPKI) -> bytes:
    tbs = TBSCertificate(
        version=2,
        serial_number=5,
        signature=ECDSA,
        issuer=tlv(NAME),
        validity=Validity.between(MOMENT, MOMENT.replace(year=2060)),
        subject=tlv(subject),
        subject_public_key_info=tlv(encode(key)),
        extensions=list(extensions) or None,
    )
    return attach_signature(encode(tbs), encode(ECDSA), bytes(70))


KID = bytes(range(20))
SIGNER = certificate(
    extension(oids.EXT_SUBJECT_KEY_IDENTIFIER, b"\x04\x14" + KID), extension(oids.EXT_KEY_USAGE, b"\x03\x02\x07\x80")
)


def pbm(iterations: int = 500, salt: bytes = bytes(16)) -> bytes:
    parameters = PBMParameter(salt=salt, owf=SHA256, iteration_count=iterations, mac=HMAC)
    return encode(algorithm(oids.PASSWORD_BASED_MAC, encode(parameters)))


def header(kind: BodyType, **changes: Any) -> PKIHeader:
    asking = kind in (BodyType.IR, BodyType.CR, BodyType.P10CR, BodyType.KUR, BodyType.RR, BodyType.GENM)
    values: dict[str, Any] = {
        "sender": NAME,
        "recipient": NULL_DN,
        "transaction_id": bytes(16),
        "sender_nonce": bytes(range(16)),
        "recip_nonce": None if asking else bytes(16),
        "protection_alg": pbm(),
        "sender_kid": b"device",
    }
    return make_header(**values | changes)


def build(
    kind: BodyType, content: Any, *, protection: bytes | None = bytes(20), extra: Sequence[bytes] = (), **changes: Any
) -> bytes:
    return assemble(protected_part(header(kind, **changes), kind, encode_body(kind, content)), protection, extra)


def signed(kind: BodyType, content: Any, **changes: Any) -> bytes:
    values: dict[str, Any] = {"protection_alg": encode(ECDSA), "sender_kid": KID, "extra": [SIGNER]}
    return build(kind, content, **values | changes)


def request(template: CertTemplate = TEMPLATE, popo: Any = SIGNED, number: int = 0) -> CertReqMsg:
    return CertReqMsg(cert_req=CertRequest(cert_req_id=number, cert_template=template), popo=popo)


def answer(status: PKIStatusInfo = ACCEPTED, number: int = 0, pair: bool = True, **more: Any) -> CertRepMessage:
    given = CertifiedKeyPair.of(SIGNER) if pair else None
    return CertRepMessage(response=[CertResponse(cert_req_id=number, status=status, certified_key_pair=given)], **more)


def rules(der: bytes) -> set[str]:
    description = describe(der)
    json.dumps(description)
    assert render(description)
    for finding in description["findings"]:
        assert finding.keys() == {"rule", "section", "text"}
        assert re.fullmatch(r"RFC \d{4}, [\d.]+", finding["section"])
    return {finding["rule"] for finding in description["findings"]}


REVOCATION = RevDetails(cert_details=CertTemplate(issuer=tlv(NAME), serial_number=5), crl_entry_details=[REASON])
INFO = InfoTypeAndValue.make
CONFIRM = INFO(oids.IT_IMPLICIT_CONFIRM, Null())
WAIT = encode_info(oids.IT_CONFIRM_WAIT_TIME, MOMENT)
PROFILE = encode_info(oids.IT_CERT_PROFILE, ["tls"])

CLEAN = {
    "ir": build(BodyType.IR, [request()], general_info=[CONFIRM, PROFILE]),
    "signed ir": signed(BodyType.IR, [request()]),
    "kur": signed(BodyType.KUR, [request()]),
    "ip": build(BodyType.IP, answer(ca_pubs=[tlv(SIGNER)]), general_info=[WAIT]),
    "rejecting ip": build(BodyType.IP, answer(REJECTED, pair=False)),
    "cp for p10cr": signed(BodyType.CP, answer(number=-1)),
    "certConf": build(BodyType.CERT_CONF, [CertStatus(cert_hash=bytes(32), cert_req_id=0)]),
    "empty certConf": build(BodyType.CERT_CONF, []),
    "certConf with hashAlg": build(
        BodyType.CERT_CONF, [CertStatus(cert_hash=bytes(32), cert_req_id=0, hash_alg=SHA256)], pvno=3
    ),
    "pkiconf": build(BodyType.PKICONF, None),
    "pollReq": build(BodyType.POLL_REQ, [PollReq(cert_req_id=-1)]),
    "pollRep": build(BodyType.POLL_REP, [PollRep(cert_req_id=0, check_after=5)]),
    "rr": build(BodyType.RR, [REVOCATION]),
    "rp": build(BodyType.RP, RevRepContent(status=[ACCEPTED])),
    "genm": build(BodyType.GENM, [INFO(oids.IT_CA_CERTS)]),
    "genp": build(BodyType.GENP, [encode_info(oids.IT_CA_CERTS, [SIGNER])]),
    "error": build(BodyType.ERROR, ErrorMsgContent(pki_status_info=REJECTED)),
    "unprotected error": build(
        BodyType.ERROR, ErrorMsgContent(pki_status_info=REJECTED), protection=None, protection_alg=None
    ),
    "nested": signed(BodyType.NESTED, [build(BodyType.IR, [request()])]),
}


@pytest.mark.parametrize("name", sorted(CLEAN))
def test_message_by_the_book_has_no_findings(name: str) -> None:
    assert rules(CLEAN[name]) == set()


IR, IP, CP, KUR, RR, GENM = BodyType.IR, BodyType.IP, BodyType.CP, BodyType.KUR, BodyType.RR, BodyType.GENM
PLAIN = [request()]
PBMAC1 = encode(
    algorithm(
        oids.PBMAC1,
        encode(
            PBMAC1Params(
                key_derivation_func=algorithm(
                    oids.PBKDF2, encode(PBKDF2Params(salt=b"abc", iteration_count=999, prf=HMAC))
                ),
                message_auth_scheme=HMAC,
            )
        ),
    )
)
EMPTY_KEY = SubjectPublicKeyInfo(algorithm=SPKI.algorithm, subject_public_key=BitString(b"", 0))
TWO_BITS = PKIStatusInfo.make(PKIStatus.REJECTION, failures=[FailureInfo.BAD_POP, FailureInfo.BAD_ALG])
OWN_INPUT: Any = Variant(
    POPOSigningKey(
        poposk_input=POPOSigningKeyInput(auth_info=Variant(directory_name(NAME), "sender"), public_key=SPKI),
        algorithm_identifier=ECDSA,
        signature=BitString(bytes(70), 0),
    ),
    "signature",
)

SIGNATURE = encode(ECDSA) + b"\x03\x01\x00"
ODD_CSR = wrap(0x30, wrap(0x30, b"\x02\x01\x01" + NAME + encode(SPKI)) + SIGNATURE)

BROKEN: list[tuple[str, bytes]] = [
    ("pvno", build(IR, PLAIN, pvno=1)),
    ("messageTime", build(IR, PLAIN, message_time=None)),
    ("transactionID", build(IR, PLAIN, transaction_id=None)),
    ("transactionID", build(IR, PLAIN, transaction_id=bytes(8))),
    ("senderNonce", build(IR, PLAIN, sender_nonce=None)),
    ("senderNonce", build(IR, PLAIN, sender_nonce=bytes(20))),
    ("recipNonce", build(IR, PLAIN, recip_nonce=bytes(16))),
    ("recipNonce", build(IP, answer(), recip_nonce=None)),
    ("recipNonce", build(IP, answer(), recip_nonce=bytes(8))),
    ("bodyType", build(BodyType.KRR, PLAIN)),
    ("protection", build(IR, PLAIN, protection=None, protection_alg=None)),
    ("senderKID", build(IR, PLAIN, sender_kid=None)),
    ("sender", build(IR, PLAIN, sender_kid=b"other")),
    ("sender", build(IR, PLAIN, sender=NULL_DN)),
    ("protection", build(KUR, PLAIN)),
    ("protection", build(BodyType.NESTED, [CLEAN["ir"]])),
    ("iterationCount", build(IR, PLAIN, protection_alg=pbm(iterations=99))),
    ("salt", build(IR, PLAIN, protection_alg=pbm(salt=bytes(7)))),
    ("iterationCount", build(IR, PLAIN, protection_alg=PBMAC1)),
    ("salt", build(IR, PLAIN, protection_alg=PBMAC1)),
    ("extraCerts", signed(IR, PLAIN, extra=[])),
    ("extraCerts", signed(IR, PLAIN, extra=[b"\x30\x00"])),
    ("extraCerts", signed(IR, PLAIN, extra=[SIGNER], sender=NULL_DN, sender_kid=b"x")),
    ("extraCerts", signed(IR, PLAIN, extra=[certificate(extension(oids.EXT_SUBJECT_KEY_IDENTIFIER, b"x"))])),
    ("sender", signed(IR, PLAIN, sender=NULL_DN)),
    ("senderKID", signed(IR, PLAIN, sender_kid=b"other")),
    ("keyUsage", signed(IR, PLAIN, extra=[certificate(extension(oids.EXT_KEY_USAGE, b"\x03\x02\x05\x20"))])),
    ("implicitConfirm", build(IR, PLAIN, general_info=[INFO(oids.IT_IMPLICIT_CONFIRM)])),
    ("implicitConfirm", build(IR, PLAIN, general_info=[INFO(oids.IT_IMPLICIT_CONFIRM, b"\x01\x01\xff")])),
    ("implicitConfirm", build(RR, [REVOCATION], general_info=[CONFIRM])),
    ("confirmWaitTime", build(IR, PLAIN, general_info=[WAIT])),
    ("confirmWaitTime", build(IP, answer(), general_info=[WAIT, CONFIRM])),
    ("confirmWaitTime", build(IP, answer(), general_info=[INFO(oids.IT_CONFIRM_WAIT_TIME, b"\x05\x00")])),
    ("certProfile", build(IR, PLAIN, general_info=[INFO(oids.IT_CERT_PROFILE, b"\x05\x00")])),
    ("certProfile", build(IR, PLAIN, general_info=[encode_info(oids.IT_CERT_PROFILE, ["a", "b"])])),
    ("certReqMsg", build(IR, [request(), request(number=1)])),
    ("certReqId", build(IR, [request(number=1)])),
    ("certReqId", build(IR, [request(number=-1)])),
    ("subject", build(IR, [request(CertTemplate(public_key=SPKI))])),
    ("serialNumber", build(IR, [request(replace(TEMPLATE, serial_number=5))])),
    ("signingAlg", build(IR, [request(replace(TEMPLATE, signing_alg=ECDSA))])),
    ("popo", build(IR, [request(popo=None)])),
    ("popo", build(IR, [request(replace(TEMPLATE, public_key=EMPTY_KEY))], pvno=3)),
    ("pvno", build(IR, [request(replace(TEMPLATE, public_key=None), popo=None)])),
    ("poposkInput", build(IR, [request(popo=OWN_INPUT)])),
    ("certResponse", build(IP, CertRepMessage(response=[]))),
    ("certReqId", build(IP, answer(number=-1))),
    ("certReqId", build(CP, answer(number=1))),
    ("caPubs", signed(IP, answer(ca_pubs=[tlv(SIGNER)]))),
    ("caPubs", build(CP, answer(ca_pubs=[tlv(SIGNER)]))),
    ("certifiedKeyPair", build(IP, answer(REJECTED))),
    ("certifiedKeyPair", build(IP, answer(pair=False))),
    ("failInfo", build(IP, answer(PKIStatusInfo.make(PKIStatus.REJECTION), pair=False))),
    ("failInfo", build(IP, answer(TWO_BITS, pair=False))),
    ("failInfo", build(IP, answer(PKIStatusInfo.make(PKIStatus.ACCEPTED, failure=FailureInfo.BAD_POP)))),
    ("status", build(IP, answer(PKIStatusInfo(status=77), pair=False))),
    ("certStatus", build(BodyType.CERT_CONF, [CertStatus(cert_hash=b"", cert_req_id=0)] * 2)),
    ("certReqId", build(BodyType.CERT_CONF, [CertStatus(cert_hash=b"", cert_req_id=5)])),
    ("pvno", build(BodyType.CERT_CONF, [CertStatus(cert_hash=b"", cert_req_id=0, hash_alg=SHA256)])),
    ("failInfo", build(BodyType.CERT_CONF, [CertStatus(cert_hash=b"", cert_req_id=0, status_info=TWO_BITS)])),
    ("certReqId", build(BodyType.POLL_REQ, [])),
    ("certReqId", build(BodyType.POLL_REQ, [PollReq(cert_req_id=5)])),
    ("checkAfter", build(BodyType.POLL_REP, [PollRep(cert_req_id=0, check_after=-1)])),
    ("revDetails", build(RR, [REVOCATION] * 2)),
    ("issuer", build(RR, [replace(REVOCATION, cert_details=CertTemplate(serial_number=5))])),
    ("serialNumber", build(RR, [replace(REVOCATION, cert_details=CertTemplate(issuer=tlv(NAME)))])),
    ("reasonCode", build(RR, [replace(REVOCATION, crl_entry_details=None)])),
    ("reasonCode", build(RR, [replace(REVOCATION, crl_entry_details=[REASON] * 2)])),
    ("reasonCode", build(RR, [replace(REVOCATION, crl_entry_details=[replace(REASON, extn_value=b"\x0a\x01\x07")])])),
    ("status", build(BodyType.RP, RevRepContent(status=[ACCEPTED] * 2))),
    ("failInfo", build(BodyType.RP, RevRepContent(status=[PKIStatusInfo.make(PKIStatus.REJECTION)]))),
    ("infoType", build(GENM, [])),
    ("infoValue", build(GENM, [INFO(oids.IT_CA_CERTS, b"\x05\x00")])),
    ("status", build(BodyType.ERROR, ErrorMsgContent(pki_status_info=ACCEPTED))),
    ("failInfo", build(BodyType.ERROR, ErrorMsgContent(pki_status_info=TWO_BITS))),
    ("transactionID", signed(BodyType.NESTED, [build(IR, PLAIN, transaction_id=bytes(range(16)))])),
    ("senderNonce", signed(BodyType.NESTED, [build(IR, PLAIN, sender_nonce=bytes(16))])),
    ("transactionID", signed(BodyType.NESTED, [CLEAN["ir"], CLEAN["ir"]])),
    ("nested", signed(BodyType.NESTED, [b"\x30\x00"])),
    (
        "version",
        build(
            BodyType.P10CR,
            wrap(0x30, wrap(0x30, b"\x02\x01\x01" + NAME + encode(SPKI)) + encode(ECDSA) + b"\x03\x01\x00"),
        ),
    ),
    ("certificationRequest", build(BodyType.P10CR, wrap(0x30, b"\x30\x00" + encode(ECDSA) + b"\x03\x01\x00"))),
    ("body", build(IR, b"\x05\x00")),
]


@pytest.mark.parametrize(("rule", "der"), BROKEN)
def test_broken_rule_is_found(rule: str, der: bytes) -> None:
    assert rule in rules(der)


def test_sender_and_recipient_that_are_no_names_are_found() -> None:
    odd = replace(header(IR), sender=tlv(b"\x82\x03abc"), recipient=tlv(b"\x88\x01\x2a"))
    der = assemble(protected_part(odd, IR, encode_body(IR, PLAIN)), bytes(20))
    assert {"sender", "recipient"} <= rules(der)
    assert describe(der)["header"]["sender"] == "DNS:abc"


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_real_messages_are_described(name: str) -> None:
    description = describe(MESSAGES[name])
    json.dumps(description)
    assert "problem" not in description
    assert name.endswith(description["type"])
    assert "object at" not in render(description)


def test_description_of_a_real_request_says_what_is_in_it() -> None:
    description = describe(MESSAGES["mac_ir-1a-ir"])
    assert description["header"]["sender"] == "CN=device,O=Example"
    assert description["header"]["protectionAlg"]["parameters"]["iterationCount"] == 500
    assert description["header"]["senderKID"].startswith("device")
    (item,) = description["body"]
    assert item["certReq"]["certTemplate"]["publicKey"] == "EC secp256r1"
    assert "signature" in item["popo"]
    names = [one["extension"] for one in item["certReq"]["certTemplate"]["extensions"]]
    assert names == ["subjectAltName", "basicConstraints", "keyUsage", "extKeyUsage"]


def test_description_of_a_real_answer_has_the_certificates_in_short() -> None:
    description = describe(MESSAGES["mac_ir-1b-ip"])
    issued = description["body"]["response"][0]["certifiedKeyPair"]["certOrEncCert"]["certificate"]
    assert (issued["subject"], issued["issuer"]) == ("CN=device,O=Example", "CN=Example CA,O=Example")
    assert issued["key"] == "EC secp256r1"
    assert issued["notBefore"].endswith("Z")
    assert description["body"]["caPubs"][0]["subject"] == "CN=Example CA,O=Example"
    assert describe(MESSAGES["mac_error-1b-error"])["body"]["pKIStatusInfo"]["failInfo"] == ["badRequest"]


def test_nested_messages_are_described_in_turn_and_not_without_end() -> None:
    der = CLEAN["ir"]
    for _ in range(6):
        der = signed(BodyType.NESTED, [der])
    description = describe(der)
    depth = 0
    while description.get("body"):
        (description,) = description["body"]
        depth += 1
    assert depth == 5
    assert "too deep" in description["problem"]
    description = describe(signed(BodyType.NESTED, [b"\x30\x00", build(IR, PLAIN, protection=None)]))
    unreadable, header_only = description["body"]
    assert unreadable["problem"]
    assert header_only["header"]["pvno"] == 2


def test_what_the_gate_refuses_is_described_as_far_as_its_header() -> None:
    wrong = encode(algorithm(oids.PASSWORD_BASED_MAC, b"\x01\x01\xff"))
    description = describe(build(IR, PLAIN, protection_alg=wrong))
    assert description["type"] is None
    assert "MAC parameters" in description["problem"]
    assert description["header"]["sender"] == "CN=device"
    assert description["findings"]


@pytest.mark.parametrize(
    ("der", "words"),
    [
        (b"", "no PKIMessage"),
        (b"\x30", "at byte 0 of 1"),
        (b"\x30\x80\x00\x00", "indefinite"),
        (b"\x30\x02\x05\x00", "no PKIMessage"),
        (b"\x30\x04\x30\x02\x04\x05", "at byte 4 of 6"),
        (b"\x05\x00\x05\x00", "bytes follow"),
        (b"\x30\x82\x00\x01\x05", "minimal"),
        (wrap(0x30, b"\x05\x00" * 120_000), "after byte"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_garbage_is_refused_with_the_place(der: bytes, words: str) -> None:
    with pytest.raises(BadMessage, match=words):
        describe(der)


def test_rare_values_are_readable() -> None:
    rsa = SubjectPublicKeyInfo(
        algorithm=algorithm(oids.RSA_ENCRYPTION, b"\x05\x00"),
        subject_public_key=BitString(wrap(0x30, wrap(0x02, b"\x00" + b"\xff" * 256) + b"\x02\x01\x03"), 0),
    )
    odd_rsa = SubjectPublicKeyInfo(algorithm=rsa.algorithm, subject_public_key=BitString(b"x", 0))
    ed25519 = SubjectPublicKeyInfo(algorithm=algorithm(oids.ED25519), subject_public_key=BitString(bytes(32), 0))
    keys = [
        describe(build(IR, [request(replace(TEMPLATE, public_key=key))]))["body"][0]["certReq"]["certTemplate"][
            "publicKey"
        ]
        for key in (rsa, odd_rsa, ed25519, EMPTY_KEY)
    ]
    assert keys == ["RSA 2048", "rsaEncryption", "id-Ed25519", "id-ecPublicKey, to be generated by the CA"]

    crl = wrap(
        0x30,
        wrap(0x30, b"\x02\x01\x01" + encode(ECDSA) + NAME + b"\x17\x0d260504030201Z") + encode(ECDSA) + b"\x03\x01\x00",
    )
    infos = [
        encode_info(oids.IT_CA_CERTS, [SIGNER, b"\x30\x00"]),
        encode_info(oids.IT_ROOT_CA_CERT, SIGNER),
        encode_info(oids.IT_CRLS, [crl, b"\x30\x00"]),
        encode_info(oids.IT_CURRENT_CRL, crl),
        encode_info(oids.IT_ROOT_CA_KEY_UPDATE, RootCaKeyUpdateContent(new_with_new=tlv(SIGNER))),
        encode_info(oids.IT_CONFIRM_WAIT_TIME, MOMENT),
        encode_info(oids.IT_ORIG_PKI_MESSAGE, [CLEAN["ir"]]),
        encode_info(oids.IT_KEY_PAIR_PARAM_REQ, oids.EC_PUBLIC_KEY),
        encode_info(
            oids.IT_CRL_STATUS_LIST,
            [
                CRLStatus.of_issuer(NAME, MOMENT),
                CRLStatus.of_url("http://crl.example/ca.crl"),
                CRLStatus(source=Variant(tlv(b"\xa0\x01\x05"), "dpn")),
            ],
        ),
        INFO("1.2.3.1", b"\x06\x01\x2a"),
        INFO("1.2.3.2", b"\x02\x01\xff"),
        INFO("1.2.3.3", b"\x18\x0f20260504030201Z"),
        INFO("1.2.3.4", b"\x0c\x02\xc3\xa4"),
        INFO("1.2.3.5", wrap(0x02, b"\x01" * 20)),
        INFO("1.2.3.6", b"\x18\x01x"),
        INFO("1.2.3.7", b"\x05\x00"),
        INFO("1.2.3.8"),
        INFO("1.2.3.9", wrap(0x04, bytes(500))),
        INFO("1.2.3.10", wrap(0x02, b"\x01" * 2000)),
    ]
    values = [item.get("value") for item in describe(build(BodyType.GENP, infos))["body"]]
    assert values[0][0]["subject"] == "CN=device"
    assert "problem" in values[0][1]
    assert values[1]["serialNumber"] == "0x5"
    assert values[2][0]["revoked"] == 0
    assert "problem" in values[2][1]
    assert values[3]["issuer"] == "CN=device"
    assert values[4]["newWithNew"]["subject"] == "CN=device"
    assert values[5] == "2026-05-04T00:00:00Z"
    assert values[6][0]["size"] == len(CLEAN["ir"])
    assert values[7] == oids.EC_PUBLIC_KEY
    assert values[8] == [
        {"issuer": ["CN=device"], "thisUpdate": "2026-05-04T00:00:00Z"},
        {"url": ["http://crl.example/ca.crl"]},
        {"source": "a00105"},
    ]
    assert values[9:14] == ["1.2", -1, "2026-05-04T03:02:01Z", "ä", hex(int("01" * 20, 16))]
    assert values[14] == "180178"
    assert values[15] == "NULL"
    assert values[16] is None
    assert values[17].endswith("(504 bytes)")
    assert values[18] == "a huge number"


def test_announcements_and_controls_are_described() -> None:
    assert describe(build(BodyType.CANN, SIGNER))["body"]["subject"] == "CN=device"
    assert describe(build(BodyType.CRLANN, [b"\x30\x00"]))["body"][0]["problem"]
    controls = [
        AttributeTypeAndValue(type=x509.ObjectIdentifier(oid), value=tlv(value))
        for oid, value in (
            (oids.REG_CTRL_OLD_CERT_ID, encode(CertId.make(NAME, 9))),
            (oids.REG_CTRL_REG_TOKEN, b"\x0c\x06secret"),
            (oids.REG_CTRL_AUTHENTICATOR, b"\x0c\x06secret"),
            (oids.REG_CTRL_RSA_KEY_LEN, b"\x05\x00"),
            ("1.2.3", b"\x02\x01\x05"),
        )
    ]
    item = CertReqMsg(cert_req=CertRequest(cert_req_id=0, cert_template=TEMPLATE, controls=controls), popo=SIGNED)
    description = describe(signed(KUR, [item]))
    values = [control["value"] for control in description["body"][0]["certReq"]["controls"]]
    assert values == [{"issuer": "CN=device", "serialNumber": "0x9"}, "(not shown)", "(not shown)", "0500", 5]
    assert "secret" not in render(description)
    assert "736563726574" not in json.dumps(description["body"])


def test_huge_certificates_are_not_looked_into() -> None:
    huge = certificate(*[extension("1.2.3", bytes(1000))] * 100)
    description = describe(build(IP, answer(ca_pubs=[tlv(huge)])))
    assert "problem" in description["body"]["caPubs"][0]


def test_extensions_of_a_template_are_read() -> None:
    extensions = [
        extension(oids.EXT_SUBJECT_KEY_IDENTIFIER, b"\x04\x02\x01\x02"),
        extension(oids.EXT_SUBJECT_KEY_IDENTIFIER, b"\x05\x00"),
        extension("1.2.3", b"\x05\x00"),
    ]
    described = describe(build(IR, [request(replace(TEMPLATE, extensions=extensions))]))
    values = [one["value"] for one in described["body"][0]["certReq"]["certTemplate"]["extensions"]]
    assert values == ["0102", "0500", "0500"]


def test_kem_based_mac_is_described() -> None:
    parameters = KemBMParameter(kdf=SHA256, len=32, mac=HMAC)
    der = build(IR, PLAIN, protection_alg=encode(algorithm(oids.KEM_BASED_MAC, encode(parameters))))
    assert rules(der) == set()
    assert describe(der)["header"]["protectionAlg"]["algorithm"] == "id-KemBasedMac"


def test_encrypted_keys_are_not_shown() -> None:
    pair = CertifiedKeyPair.of(SIGNER, tlv(b"\xa0\x02\x05\x00"))
    content = CertRepMessage(response=[CertResponse(cert_req_id=0, status=ACCEPTED, certified_key_pair=pair)])
    der = build(IP, content)
    assert describe(der)["body"]["response"][0]["certifiedKeyPair"]["privateKey"] == "(encrypted)"
    assert "pvno" in rules(der)


def test_control_characters_of_the_peer_do_not_reach_the_terminal() -> None:
    status = PKIStatusInfo.make(PKIStatus.REJECTION, "\x1b[2J\r\nfindings: none", failure=FailureInfo.BAD_POP)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a\x1b]0;b\x07,c")]).public_bytes()
    text = render(describe(build(BodyType.ERROR, ErrorMsgContent(pki_status_info=status), sender=name)))
    assert not [char for char in text if not char.isprintable() and char != "\n"]
    assert "\nfindings: none" not in text


def test_nothing_but_bad_message_leaves_describe() -> None:
    source = random.Random(9483)
    pool = [*MESSAGES.values(), *CLEAN.values(), *(der for _, der in BROKEN)]
    for _ in range(4000):
        data = bytearray(source.choice(pool))
        for _ in range(source.choice((1, 1, 3))):
            at = source.randrange(len(data))
            match source.randrange(4):
                case 0:
                    data[at] ^= 1 << source.randrange(8)
                case 1:
                    data[at] = source.choice((0x00, 0x02, 0x05, 0x0A, 0x30, 0x80, 0xFF))
                case 2:
                    data[at : at + 2] = source.randbytes(source.randrange(4))
                case _:
                    data[at] = source.randrange(256)
            if not data:
                break
        try:
            description = describe(bytes(data))
        except BadMessage:
            continue
        json.dumps(description)
        render(description)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_random_names_and_extensions_are_survived(data: bytes) -> None:
    name = wrap(0x30, data)
    ids = (oids.EXT_KEY_USAGE, oids.EXT_EXTENDED_KEY_USAGE, oids.EXT_SUBJECT_ALT_NAME, oids.EXT_CRL_REASON)
    template = replace(TEMPLATE, subject=tlv(name), extensions=[extension(oid, data) for oid in ids])
    der = build(IR, [request(template)], sender=name)
    json.dumps(describe(der))
    assert admit(der).header_der
    assert decode(PKIHeader, admit(der).header_der).pvno == 2
