"""CMP over pyasn1, the structures of pyasn1_alt_modules and cryptography: both ends."""

# mypy: disable-error-code="misc,no-any-unimported"
import hmac
from typing import Any

from cryptography import x509 as cx509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyasn1.codec.der import decoder, encoder  # type: ignore[import-untyped]
from pyasn1.type import tag, univ, useful  # type: ignore[import-untyped]
from pyasn1_alt_modules import rfc4211, rfc5280, rfc9810  # type: ignore[import-untyped]

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

__all__ = ["decode", "encode", "enroll"]

PBM = "1.2.840.113533.7.66.13"
IMPLICIT_CONFIRM = "1.3.6.1.5.5.7.4.13"
ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"


def decode(der: bytes) -> Any:
    """A PKIMessage of pyasn1_alt_modules."""
    message, rest = decoder.decode(der, asn1Spec=rfc9810.PKIMessage())
    assert not rest
    return message


def encode(message: Any) -> bytes:
    """DER of any pyasn1 value."""
    return bytes(encoder.encode(message))


def _name(name: cx509.Name) -> Any:
    return decoder.decode(name.public_bytes(), asn1Spec=rfc5280.Name())[0]


def _protected(header: Any, body: Any) -> bytes:
    salt = random_bytes(16)
    parameters = rfc9810.PBMParameter()
    parameters["salt"] = salt
    parameters["owf"]["algorithm"] = "2.16.840.1.101.3.4.2.1"
    parameters["iterationCount"] = ITERATIONS
    parameters["mac"]["algorithm"] = "1.3.6.1.5.5.8.1.2"
    header["pvno"] = 2
    header["messageTime"] = useful.GeneralizedTime.fromDateTime(now()).subtype(
        explicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatSimple, 0)
    )
    header["protectionAlg"]["algorithm"] = PBM
    header["protectionAlg"]["parameters"] = encoder.encode(parameters)
    header["senderKID"] = REFERENCE
    header["senderNonce"] = random_bytes(16)
    header["generalInfo"][0]["infoType"] = IMPLICIT_CONFIRM
    header["generalInfo"][0]["infoValue"] = encoder.encode(univ.Null(""))
    part = rfc9810.ProtectedPart()
    part["header"] = header
    part["body"] = body
    message = rfc9810.PKIMessage()
    message["header"] = header
    message["body"] = body
    message["protection"] = univ.BitString.fromOctetString(
        password_based_mac(salt, ITERATIONS, encoder.encode(part))
    ).subtype(explicitTag=tag.Tag(tag.tagClassContext, tag.tagFormatSimple, 0))
    return encode(message)


def _verified(der: bytes) -> Any:
    message = decode(der)
    algorithm = message["header"]["protectionAlg"]
    assert str(algorithm["algorithm"]) == PBM
    parameters, _ = decoder.decode(algorithm["parameters"], asn1Spec=rfc9810.PBMParameter())
    part = rfc9810.ProtectedPart()
    part["header"] = message["header"]
    part["body"] = message["body"]
    mac = password_based_mac(bytes(parameters["salt"]), int(parameters["iterationCount"]), encoder.encode(part))
    assert hmac.compare_digest(mac, message["protection"].asOctets())
    return message


def _serve(der: bytes) -> bytes:
    message = _verified(der)
    request = message["body"]["ir"][0]
    template = request["certReq"]["certTemplate"]
    info = rfc5280.SubjectPublicKeyInfo()
    for field in ("algorithm", "subjectPublicKey"):
        info[field] = template["publicKey"][field]
    spki = encode(info)
    key = serialization.load_der_public_key(spki)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(
        request["popo"]["signature"]["signature"].asOctets(), encode(request["certReq"]), ec.ECDSA(hashes.SHA256())
    )
    header = rfc9810.PKIHeader()
    header["sender"]["directoryName"]["rdnSequence"] = _name(CA_NAME)["rdnSequence"]
    header["recipient"] = message["header"]["sender"]
    header["transactionID"] = bytes(message["header"]["transactionID"])
    header["recipNonce"] = bytes(message["header"]["senderNonce"])
    body = rfc9810.PKIBody()
    response = rfc9810.CertResponse()
    response["certReqId"] = 0
    response["status"]["status"] = 0
    certificate, _ = decoder.decode(issue(DEVICE_NAME, spki), asn1Spec=rfc5280.Certificate())
    target = response["certifiedKeyPair"]["certOrEncCert"]["certificate"]
    for field in ("tbsCertificate", "signatureAlgorithm", "signature"):
        target[field] = certificate[field]
    body["ip"]["response"].append(response)
    return _protected(header, body)


def enroll() -> bytes:
    """One enrollment, ir to ip: the certificate."""
    request = rfc4211.CertRequest()
    request["certReqId"] = 0
    template = request["certTemplate"]
    template["subject"]["rdnSequence"] = _name(DEVICE_NAME)["rdnSequence"]
    info, _ = decoder.decode(DEVICE_SPKI, asn1Spec=rfc5280.SubjectPublicKeyInfo())
    for field in ("algorithm", "subjectPublicKey"):
        template["publicKey"][field] = info[field]
    message = rfc4211.CertReqMsg()
    message["certReq"] = request
    popo = message["popo"]["signature"]
    popo["algorithmIdentifier"]["algorithm"] = ECDSA_WITH_SHA256
    popo["signature"] = univ.BitString.fromOctetString(DEVICE_KEY.sign(encode(request), ec.ECDSA(hashes.SHA256())))
    header = rfc9810.PKIHeader()
    header["sender"]["directoryName"]["rdnSequence"] = _name(DEVICE_NAME)["rdnSequence"]
    header["recipient"]["directoryName"]["rdnSequence"] = _name(CA_NAME)["rdnSequence"]
    transaction = random_bytes(16)
    header["transactionID"] = transaction
    body = rfc9810.PKIBody()
    body["ir"].append(message)
    answer = _verified(_serve(_protected(header, body)))
    assert bytes(answer["header"]["transactionID"]) == transaction
    response = answer["body"]["ip"]["response"][0]
    assert int(response["status"]["status"]) == 0
    certificate = encode(response["certifiedKeyPair"]["certOrEncCert"]["certificate"])
    start = certificate if certificate[0] == 0x30 else certificate[4:]
    assert cx509.load_der_x509_certificate(start).public_key() == DEVICE_KEY.public_key()
    return start
