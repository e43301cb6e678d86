"""A device that speaks CMP to a Responder, built on asn1 and protect alone: no client, no Session."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.asn1 import Null, Variant

from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    AttributeTypeAndValue,
    BitString,
    CertId,
    CertReqMsg,
    CertRequest,
    CertStatus,
    CertTemplate,
    Extension,
    InfoTypeAndValue,
    Limits,
    Message,
    OptionalValidity,
    PKIHeader,
    PKIStatusInfo,
    PollReq,
    POPOSigningKey,
    POPOSigningKeyInput,
    RevDetails,
    SubjectPublicKeyInfo,
    admit,
    assemble,
    attach_signature,
    decode,
    directory_name,
    encode,
    encode_body,
    make_header,
    oids,
    protected_part,
    time,
    tlv,
    wrap,
)
from opensslcmp.context.certificates import facts
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import MacProtector, Protector, protect, protector_for, verify
from opensslcmp.credentials import SharedSecret, Signer
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason

IMPLICIT = InfoTypeAndValue.make(oids.IT_IMPLICIT_CONFIRM, b"\x05\x00")
CRL_REASON = x509.ObjectIdentifier("2.5.29.21")
KEYS = [PrivateKey.generate("ec:P-256") for _ in range(3)]
"""Some keys, since making them takes time."""


def name(text: str) -> bytes:
    """DER of a Name."""
    return x509.Name.from_rfc4514_string(text).public_bytes()


def extension(value: x509.ExtensionType, critical: bool = False) -> Extension:
    """An Extension from ``cryptography``'s object."""
    return Extension(extn_id=value.oid, critical=critical, extn_value=value.public_bytes())


def crmf(
    key: PrivateKey,
    subject: str | bytes | None = "CN=device",
    *,
    request_id: int = 0,
    popo: str = "signature",
    signing_key: PrivateKey | None = None,
    extensions: Sequence[Extension] = (),
    validity: OptionalValidity | None = None,
    old: bytes | None = None,
    popo_sender: bytes = b"0\x00",
    controls: Sequence[AttributeTypeAndValue] = (),
    **template: Any,
) -> CertReqMsg:
    """One CertReqMsg with its proof of possession."""
    fields: dict[str, Any] = {
        "subject": None if subject is None else tlv(name(subject) if isinstance(subject, str) else subject),
        "public_key": decode(SubjectPublicKeyInfo, key.public_key_der),
        "extensions": list(extensions) or None,
        "validity": validity,
    }
    fields.update(template)
    if old is not None:
        about = facts(old)
        control = CertId(issuer=directory_name(about.issuer), serial_number=about.serial_number)
        controls = [
            *controls,
            AttributeTypeAndValue(type=x509.ObjectIdentifier(oids.REG_CTRL_OLD_CERT_ID), value=tlv(encode(control))),
        ]
    request = CertRequest(cert_req_id=request_id, cert_template=CertTemplate(**fields), controls=list(controls) or None)
    proof: Any = None
    if popo == "signature":
        signer = signing_key or key
        algorithm = signer.signature_algorithm()
        proof = Variant(
            POPOSigningKey(
                algorithm_identifier=decode(AlgorithmIdentifier, algorithm),
                signature=BitString(signer.sign(encode(request), algorithm), 0),
            ),
            "signature",
        )
    elif popo == "input":
        proof_input = POPOSigningKeyInput(
            auth_info=Variant(directory_name(popo_sender), "sender"),
            public_key=decode(SubjectPublicKeyInfo, key.public_key_der),
        )
        algorithm = key.signature_algorithm()
        proof = Variant(
            POPOSigningKey(
                poposk_input=proof_input,
                algorithm_identifier=decode(AlgorithmIdentifier, algorithm),
                signature=BitString(key.sign(encode(proof_input), algorithm), 0),
            ),
            "signature",
        )
    elif popo == "raVerified":
        proof = Variant(Null(), "raVerified")
    elif popo == "keyEncipherment":
        proof = Variant(tlv(b"\x81\x01\x00"), "keyEncipherment")
    elif popo == "keyAgreement":
        proof = Variant(tlv(b"\x81\x01\x00"), "keyAgreement")
    elif popo == "thisMessage":
        proof = Variant(tlv(b"\x80\x02\x00\x2a"), "keyEncipherment")
    return CertReqMsg(cert_req=request, popo=proof)


def cross(
    key: PrivateKey, certificate: bytes, signing_algorithm: bytes, now: float, popo: str = "signature", **template: Any
) -> CertReqMsg:
    """A CertReqMsg for cross-certification of the CA with this key and certificate."""
    begin = datetime.fromtimestamp(now, UTC)
    fields: dict[str, Any] = {
        "version": 2,
        "signing_alg": decode(AlgorithmIdentifier, signing_algorithm),
        "issuer": tlv(name("CN=Test CA")),
        "validity": OptionalValidity(not_before=time(begin), not_after=time(begin + timedelta(days=90))),
    }
    request_id = template.pop("request_id", 0)
    subject = template.pop("subject", facts(certificate).subject)
    return crmf(key, subject, request_id=request_id, popo=popo, **(fields | template))


def csr(
    key: PrivateKey, subject: str = "CN=device", *, version: int = 0, signing_key: PrivateKey | None = None
) -> bytes:
    """A PKCS #10 request."""
    info = wrap(0x30, encode(version) + name(subject) + key.public_key_der + b"\xa0\x00")
    signer = signing_key or key
    algorithm = signer.signature_algorithm()
    return attach_signature(info, algorithm, signer.sign(info, algorithm))


def revocation(certificate: bytes, reason: int | None = RevocationReason.SUPERSEDED, **template: Any) -> RevDetails:
    """RevDetails."""
    about = facts(certificate)
    fields: dict[str, Any] = {"issuer": tlv(about.issuer), "serial_number": about.serial_number}
    fields.update(template)
    details = None
    if reason is not None:
        details = [Extension(extn_id=CRL_REASON, extn_value=bytes((0x0A, 1, reason)))]
    return RevDetails(cert_details=CertTemplate(**fields), crl_entry_details=details)


@dataclass
class Device:
    """One requester and its current transaction.

    ``header`` fields can be overridden by keyword in ``build``; ``answer`` remembers nonces.
    """

    handle: Callable[[bytes], bytes]
    credential: Protector
    clock: Callable[[], float]
    recipient: bytes = b"0\x00"
    transaction_id: bytes = field(default_factory=lambda: os.urandom(16))
    recip_nonce: bytes | None = None
    last_request: bytes = b""
    sender_nonce: bytes = b""

    def begin(self) -> None:
        """A new transaction."""
        self.transaction_id = os.urandom(16)
        self.recip_nonce = None

    def build(self, body_type: BodyType, content: Any, *, protected: bool = True, **fields: Any) -> bytes:
        """A request."""
        protector = fields.pop("protector", self.credential)
        self.sender_nonce = os.urandom(16)
        values: dict[str, Any] = {
            "sender": protector.sender_name,
            "recipient": self.recipient,
            "message_time": datetime.fromtimestamp(self.clock(), UTC),
            "transaction_id": self.transaction_id,
            "sender_nonce": self.sender_nonce,
            "recip_nonce": self.recip_nonce,
        }
        sender = fields.pop("general_sender", None)
        values.update(fields)
        header: PKIHeader = make_header(**values)
        if sender is not None:
            header = dataclasses.replace(header, sender=sender)
        body = encode_body(body_type, content)
        if not protected:
            return assemble(protected_part(header, body_type, body), None)
        return protect(header, body_type, body, protector)

    def send(self, body_type: BodyType, content: Any, **fields: Any) -> Message:
        """A request, and its answer."""
        self.last_request = self.build(body_type, content, **fields)
        answer = admit(self.handle(self.last_request), limits=Limits(min_id_bytes=1))
        assert answer.transaction_id == fields.get("transaction_id", self.transaction_id)
        assert answer.recip_nonce == fields.get("sender_nonce", self.sender_nonce)
        if answer.body_type is not BodyType.ERROR or status_of(answer).status == PKIStatus.WAITING:
            self.recip_nonce = answer.sender_nonce
        return answer

    def ask(self, body_type: BodyType, *requests: CertReqMsg | bytes, implicit: bool = False, **fields: Any) -> Message:
        """A certificate request in a new transaction."""
        if "transaction_id" not in fields:
            self.begin()
        if implicit:
            fields["general_info"] = [IMPLICIT]
        content: Any = requests[0] if body_type is BodyType.P10CR else list(requests)
        return self.send(body_type, content, **fields)

    def confirm(self, certificate: bytes, *, status: PKIStatusInfo | None = None, **fields: Any) -> Message:
        """certConf."""
        return self.send(BodyType.CERT_CONF, [conf(certificate, status)], **fields)

    def enroll(self, key: PrivateKey, subject: str = "CN=device", kind: BodyType = BodyType.IR, **fields: Any) -> bytes:
        """The certificate, confirmed."""
        certificate = certificate_of(self.ask(kind, crmf(key, subject, **fields)))
        answer = self.confirm(certificate)
        assert answer.body_type is BodyType.PKICONF
        return certificate

    def signing(self, certificate: bytes, key: PrivateKey, chain: Sequence[bytes] = ()) -> Device:
        """The same device, with a certificate as its credential."""
        return Device(self.handle, protector_for(Signer(certificate, key, chain)), self.clock, self.recipient)

    def check(self, answer: Message, secret: bytes | None = None) -> None:
        """The answer's MAC verifies."""
        verify(answer, secrets=lambda _: secret)


def mac_device(
    handle: Callable[[bytes], bytes], clock: Callable[[], float], reference: str = "device", secret: str = "secret"
) -> Device:
    """A device with a shared secret."""
    return Device(handle, MacProtector(SharedSecret(reference, secret)), clock)


def conf(
    certificate: bytes,
    status: PKIStatusInfo | None = None,
    *,
    request_id: int = 0,
    digest: str | None = None,
    hash_alg: AlgorithmIdentifier | None = None,
) -> CertStatus:
    """CertStatus."""
    if digest is None:
        digest = signature_hash(certificate) or "sha512"
    return CertStatus(
        cert_hash=hashlib.new(digest, certificate).digest(),
        cert_req_id=request_id,
        status_info=status,
        hash_alg=hash_alg,
    )


def signature_hash(certificate: bytes) -> str | None:
    """The hash in a certificate's signature algorithm; None for EdDSA."""
    try:
        found = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except ValueError:
        return "sha256"
    return found.name if found else None


def poll_request(request_id: int = 0) -> list[PollReq]:
    """The content of a pollReq."""
    return [PollReq(cert_req_id=request_id)]


def certificate_of(answer: Message) -> bytes:
    """The certificate in an ip, cp or kup."""
    content = answer.content()
    assert answer.body_type in {BodyType.IP, BodyType.CP, BodyType.KUP, BodyType.CCP}, said(answer)
    certificate: bytes | None = content.response[0].certificate
    assert certificate is not None, content
    return certificate


def status_of(answer: Message) -> PKIStatusInfo:
    """The PKIStatusInfo of an answer."""
    content = answer.content()
    if answer.body_type is BodyType.ERROR:
        status: PKIStatusInfo = content.pki_status_info
    elif answer.body_type is BodyType.RP:
        status = content.status[0]
    elif answer.body_type is BodyType.KRP:
        status = content.status
    else:
        status = content.response[0].status
    return status


def said(answer: Message) -> tuple[BodyType, FailureInfo | None]:
    """Body type, and the failInfo of a rejection."""
    if answer.body_type in {BodyType.PKICONF, BodyType.GENP, BodyType.POLL_REP, BodyType.NESTED}:
        return answer.body_type, None
    status = status_of(answer)
    assert len(status.failures) <= 1
    assert (status.status == PKIStatus.REJECTION) is bool(status.failures)
    return answer.body_type, status.failures[0] if status.failures else None
