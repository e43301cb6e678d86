"""CMP over asn1crypto and cryptography: RFC 9810's structures as far as ir and ip need them, and both ends."""

# mypy: disable-error-code="misc,no-any-unimported"
import hmac
from typing import Any

from asn1crypto import algos, core, keys, x509  # type: ignore[import-untyped]
from cryptography import x509 as cx509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.peers.crypto import (
    CA_NAME,
    DEVICE_KEY,
    DEVICE_NAME,
    DEVICE_SPKI,
    ITERATIONS,
    REFERENCE,
    issue,
    now,
    password_based_mac,
    random_bytes,
)

__all__ = ["PKIMessage", "enroll"]

PBM = "1.2.840.113533.7.66.13"
IMPLICIT_CONFIRM = "1.3.6.1.5.5.7.4.13"


class AnyAlgorithm(core.Sequence):
    _fields = [("algorithm", core.ObjectIdentifier), ("parameters", core.Any, {"optional": True})]


class PBMParameter(core.Sequence):
    _fields = [
        ("salt", core.OctetString),
        ("owf", AnyAlgorithm),
        ("iterationCount", core.Integer),
        ("mac", AnyAlgorithm),
    ]


class InfoTypeAndValue(core.Sequence):
    _fields = [("infoType", core.ObjectIdentifier), ("infoValue", core.Any, {"optional": True})]


class GeneralInfo(core.SequenceOf):
    _child_spec = InfoTypeAndValue


class FreeText(core.SequenceOf):
    _child_spec = core.UTF8String


class PKIHeader(core.Sequence):
    _fields = [
        ("pvno", core.Integer),
        ("sender", x509.GeneralName),
        ("recipient", x509.GeneralName),
        ("messageTime", core.GeneralizedTime, {"explicit": 0, "optional": True}),
        ("protectionAlg", AnyAlgorithm, {"explicit": 1, "optional": True}),
        ("senderKID", core.OctetString, {"explicit": 2, "optional": True}),
        ("recipKID", core.OctetString, {"explicit": 3, "optional": True}),
        ("transactionID", core.OctetString, {"explicit": 4, "optional": True}),
        ("senderNonce", core.OctetString, {"explicit": 5, "optional": True}),
        ("recipNonce", core.OctetString, {"explicit": 6, "optional": True}),
        ("freeText", FreeText, {"explicit": 7, "optional": True}),
        ("generalInfo", GeneralInfo, {"explicit": 8, "optional": True}),
    ]


class OptionalValidity(core.Sequence):
    _fields = [
        ("notBefore", x509.Time, {"explicit": 0, "optional": True}),
        ("notAfter", x509.Time, {"explicit": 1, "optional": True}),
    ]


class CertTemplate(core.Sequence):
    _fields = [
        ("version", core.Integer, {"implicit": 0, "optional": True}),
        ("serialNumber", core.Integer, {"implicit": 1, "optional": True}),
        ("signingAlg", AnyAlgorithm, {"implicit": 2, "optional": True}),
        ("issuer", x509.Name, {"explicit": 3, "optional": True}),
        ("validity", OptionalValidity, {"implicit": 4, "optional": True}),
        ("subject", x509.Name, {"explicit": 5, "optional": True}),
        ("publicKey", keys.PublicKeyInfo, {"implicit": 6, "optional": True}),
        ("issuerUID", core.BitString, {"implicit": 7, "optional": True}),
        ("subjectUID", core.BitString, {"implicit": 8, "optional": True}),
        ("extensions", x509.Extensions, {"implicit": 9, "optional": True}),
    ]


class Controls(core.SequenceOf):
    _child_spec = InfoTypeAndValue


class CertRequest(core.Sequence):
    _fields = [
        ("certReqId", core.Integer),
        ("certTemplate", CertTemplate),
        ("controls", Controls, {"optional": True}),
    ]


class POPOSigningKey(core.Sequence):
    _fields = [
        ("poposkInput", core.Sequence, {"implicit": 0, "optional": True}),
        ("algorithmIdentifier", algos.SignedDigestAlgorithm),
        ("signature", core.OctetBitString),
    ]


class ProofOfPossession(core.Choice):
    _alternatives = [
        ("raVerified", core.Null, {"implicit": 0}),
        ("signature", POPOSigningKey, {"implicit": 1}),
    ]


class CertReqMsg(core.Sequence):
    _fields = [
        ("certReq", CertRequest),
        ("popo", ProofOfPossession, {"optional": True}),
        ("regInfo", Controls, {"optional": True}),
    ]


class CertReqMessages(core.SequenceOf):
    _child_spec = CertReqMsg


class PKIStatusInfo(core.Sequence):
    _fields = [
        ("status", core.Integer),
        ("statusString", FreeText, {"optional": True}),
        ("failInfo", core.BitString, {"optional": True}),
    ]


class CertOrEncCert(core.Choice):
    _alternatives = [
        ("certificate", x509.Certificate, {"explicit": 0}),
        ("encryptedCert", core.Sequence, {"explicit": 1}),
    ]


class CertifiedKeyPair(core.Sequence):
    _fields = [("certOrEncCert", CertOrEncCert)]


class CertResponse(core.Sequence):
    _fields = [
        ("certReqId", core.Integer),
        ("status", PKIStatusInfo),
        ("certifiedKeyPair", CertifiedKeyPair, {"optional": True}),
    ]


class CertResponses(core.SequenceOf):
    _child_spec = CertResponse


class Certificates(core.SequenceOf):
    _child_spec = x509.Certificate


class CertRepMessage(core.Sequence):
    _fields = [("caPubs", Certificates, {"explicit": 1, "optional": True}), ("response", CertResponses)]


class PKIBody(core.Choice):
    _alternatives = [("ir", CertReqMessages, {"explicit": 0}), ("ip", CertRepMessage, {"explicit": 1})]


class PKIMessage(core.Sequence):
    _fields = [
        ("header", PKIHeader),
        ("body", PKIBody),
        ("protection", core.OctetBitString, {"explicit": 0, "optional": True}),
        ("extraCerts", Certificates, {"explicit": 1, "optional": True}),
    ]


class ProtectedPart(core.Sequence):
    _fields = [("header", PKIHeader), ("body", PKIBody)]


def _name(name: cx509.Name) -> x509.Name:
    return x509.Name.load(name.public_bytes())


def _protected(header: dict[str, Any], body: PKIBody) -> bytes:
    salt = random_bytes(16)
    parameters = PBMParameter(
        {
            "salt": salt,
            "owf": {"algorithm": "2.16.840.1.101.3.4.2.1"},
            "iterationCount": ITERATIONS,
            "mac": {"algorithm": "1.3.6.1.5.5.8.1.2"},
        }
    )
    header |= {
        "pvno": 2,
        "messageTime": now(),
        "protectionAlg": {"algorithm": PBM, "parameters": parameters},
        "senderKID": REFERENCE,
        "senderNonce": random_bytes(16),
        "generalInfo": [{"infoType": IMPLICIT_CONFIRM, "infoValue": core.Null()}],
    }
    part = ProtectedPart({"header": PKIHeader(header), "body": body})
    mac = password_based_mac(salt, ITERATIONS, part.dump())
    return bytes(PKIMessage({"header": part["header"], "body": part["body"], "protection": mac}).dump())


def _verified(der: bytes) -> PKIMessage:
    message: PKIMessage = PKIMessage.load(der, strict=True)
    algorithm = message["header"]["protectionAlg"]
    assert algorithm["algorithm"].native == PBM
    parameters = algorithm["parameters"].parse(PBMParameter)
    part = ProtectedPart({"header": message["header"], "body": message["body"]}).dump()
    mac = password_based_mac(parameters["salt"].native, parameters["iterationCount"].native, part)
    assert hmac.compare_digest(mac, message["protection"].native)
    return message


def _serve(der: bytes) -> bytes:
    message = _verified(der)
    header = message["header"]
    request = message["body"].chosen[0]
    popo = request["popo"].chosen
    template = request["certReq"]["certTemplate"]
    spki = template["publicKey"].untag().dump()
    key = serialization.load_der_public_key(spki)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(popo["signature"].native, request["certReq"].dump(), ec.ECDSA(hashes.SHA256()))
    certificate = issue(DEVICE_NAME, spki)
    answer = {
        "response": [
            {
                "certReqId": 0,
                "status": {"status": 0},
                "certifiedKeyPair": {"certOrEncCert": CertOrEncCert("certificate", x509.Certificate.load(certificate))},
            }
        ]
    }
    return _protected(
        {
            "sender": x509.GeneralName("directory_name", _name(CA_NAME)),
            "recipient": header["sender"],
            "transactionID": header["transactionID"].native,
            "recipNonce": header["senderNonce"].native,
        },
        PKIBody("ip", CertRepMessage(answer)),
    )


def enroll() -> bytes:
    """One enrollment, ir to ip: the certificate."""
    request = CertRequest(
        {
            "certReqId": 0,
            "certTemplate": {
                "subject": _name(DEVICE_NAME),
                "publicKey": keys.PublicKeyInfo.load(DEVICE_SPKI),
            },
        }
    )
    signature = DEVICE_KEY.sign(request.dump(), ec.ECDSA(hashes.SHA256()))
    popo = POPOSigningKey({"algorithmIdentifier": {"algorithm": "sha256_ecdsa"}, "signature": signature})
    transaction = random_bytes(16)
    answer = _verified(
        _serve(
            _protected(
                {
                    "sender": x509.GeneralName("directory_name", _name(DEVICE_NAME)),
                    "recipient": x509.GeneralName("directory_name", _name(CA_NAME)),
                    "transactionID": transaction,
                },
                PKIBody("ir", [CertReqMsg({"certReq": request, "popo": ProofOfPossession("signature", popo)})]),
            )
        )
    )
    assert answer["header"]["transactionID"].native == transaction
    response = answer["body"].chosen["response"][0]
    assert response["status"]["status"].native == 0
    certificate = bytes(response["certifiedKeyPair"]["certOrEncCert"].chosen.untag().dump())
    assert cx509.load_der_x509_certificate(certificate).public_key() == DEVICE_KEY.public_key()
    return certificate
