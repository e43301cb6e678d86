"""A CA in this process that answers as it is told to, right or wrong, in any protection."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from opensslcmp.asn1 import (
    NULL_DN,
    CertifiedKeyPair,
    CertRepMessage,
    CertResponse,
    ErrorMsgContent,
    InfoTypeAndValue,
    Message,
    Null,
    PKIStatusInfo,
    PollRep,
    RevRepContent,
    admit,
    assemble,
    encode_body,
    encode_info,
    make_header,
    oids,
    protected_part,
    tlv,
)
from opensslcmp.context.certificates import Trust
from opensslcmp.context.protection import Protector, Verified, protect, verify
from opensslcmp.credentials import SharedSecret
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from tests.client.client_peers import Entity

__all__ = ["Scripted", "reply"]

ANSWERS = {BodyType.IR: BodyType.IP, BodyType.CR: BodyType.CP, BodyType.P10CR: BodyType.CP, BodyType.KUR: BodyType.KUP}
Change = Callable[[bytes], bytes]


class Scripted:
    """Issues, revokes, informs; verifies every request it gets.

    Args:
        ca: signs certificates.
        protector: of the answers; None sends them unprotected.
        secret, trust: what requests are verified with.
        waits: how often a request is answered with "waiting" or a pollRep.
        by_error: say "waiting" with an error message.
        check_after: seconds in pollReps.
        grant_implicit: implicit confirmation.
        change: applied to each answer, numbered from 0.
        info: answers genm.
        issue: gives a certificate for a subject and a public key; by default one with the alternative names asked for.
        status: of certificates.
    """

    def __init__(
        self,
        ca: Entity,
        protector: Protector | None,
        *,
        secret: SharedSecret | None = None,
        trust: Trust | None = None,
        waits: int = 0,
        by_error: bool = False,
        check_after: int = 1,
        grant_implicit: bool = False,
        first_nonce: bool = False,
        change: Callable[[int, bytes], bytes] | None = None,
        info: Callable[[list[InfoTypeAndValue]], list[InfoTypeAndValue]] | None = None,
        ca_pubs: tuple[bytes, ...] = (),
        issue: Callable[[bytes, bytes], bytes] | None = None,
        status: PKIStatus = PKIStatus.ACCEPTED,
    ) -> None:
        self.ca, self.protector = ca, protector
        self.secret, self.trust = secret, trust
        self.waits, self.by_error, self.check_after = waits, by_error, check_after
        self.grant_implicit, self.first_nonce = grant_implicit, first_nonce
        self.change, self.info, self.ca_pubs = change, info, ca_pubs
        self.issue = issue or self.certify
        self.status = status
        self.alternative_names: bytes | None = None
        self.requests: list[Message] = []
        self.verified: list[Verified] = []
        self.timeouts: list[float] = []
        self.pending: dict[bytes, Message] = {}
        self.issued: dict[bytes, bytes] = {}
        self.confirmed: set[bytes] = set()

    def send(self, request: bytes, timeout_seconds: float) -> bytes:
        message = admit(request)
        self.requests.append(message)
        self.timeouts.append(timeout_seconds)
        if self.protector is not None:
            self.verified.append(
                verify(message, secrets=None if self.secret is None else lambda _: self.secret, trust=self.trust)
            )
        number = len(self.requests) - 1
        answer = self.answer(message)
        return answer if self.change is None else self.change(number, answer)

    @property
    def kinds(self) -> list[BodyType]:
        return [message.body_type for message in self.requests]

    def answer(self, message: Message) -> bytes:
        tid = message.transaction_id
        assert tid is not None
        match message.body_type:
            case BodyType.POLL_REQ:
                if self.waits:
                    self.waits -= 1
                    item = PollRep(cert_req_id=message.content()[0].cert_req_id, check_after=self.check_after)
                    return self.build(message, BodyType.POLL_REP, [item])
                opening = self.pending.pop(tid)
                nonce = opening.sender_nonce if self.first_nonce else None
                return self.final(opening, message, nonce)
            case BodyType.ERROR:
                return self.build(message, BodyType.PKICONF, None)
            case BodyType.CERT_CONF:
                (status,) = message.content()
                certificate = self.issued[tid]
                digest = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
                expected = hashlib.new("sha512" if digest is None else digest.name, certificate).digest()
                assert (status.hash_alg is None) is (digest is not None)
                assert message.header.pvno == (3 if digest is None else 2)
                assert status.cert_hash == expected
                if status.status_info is None or status.status_info.status == PKIStatus.ACCEPTED:
                    self.confirmed.add(tid)
                return self.build(message, BodyType.PKICONF, None)
        if self.waits:
            self.waits -= 1
            self.pending[tid] = message
            status = PKIStatusInfo.make(PKIStatus.WAITING)
            kind = ANSWERS.get(message.body_type)
            if self.by_error or kind is None:
                return self.build(message, BodyType.ERROR, ErrorMsgContent(pki_status_info=status))
            request_id = -1 if message.body_type is BodyType.P10CR else 0
            response = CertResponse(cert_req_id=request_id, status=status)
            return self.build(message, kind, CertRepMessage(response=[response]))
        return self.final(message, message)

    def final(self, opening: Message, message: Message, nonce: bytes | None = None) -> bytes:
        if opening.body_type is BodyType.RR:
            content: Any = RevRepContent(status=[PKIStatusInfo.make(PKIStatus.ACCEPTED, "revoked")])
            return self.build(message, BodyType.RP, content, nonce=nonce)
        if opening.body_type is BodyType.GENM:
            items = opening.content() if self.info is None else self.info(opening.content())
            return self.build(message, BodyType.GENP, items, nonce=nonce)
        body = opening.content()
        if opening.body_type is BodyType.P10CR:
            subject, spki = body.info.subject, encode_body(BodyType.IP, body.info.subject_pk_info)
        else:
            template = body[0].cert_req.cert_template
            subject, spki = template.subject or tlv(NULL_DN), template.public_key_der
            found = [each for each in template.extensions or () if each.oid == "2.5.29.17"]
            self.alternative_names = found[0].extn_value if found else None
        certificate = self.issue(encode_body(BodyType.IP, subject), spki)
        assert message.transaction_id is not None
        self.issued[message.transaction_id] = certificate
        response = CertResponse(
            cert_req_id=-1 if opening.body_type is BodyType.P10CR else 0,
            status=PKIStatusInfo.make(self.status),
            certified_key_pair=CertifiedKeyPair.of(certificate),
        )
        info = []
        if self.grant_implicit and opening.implicit_confirm:
            info = [encode_info(oids.IT_IMPLICIT_CONFIRM, Null())]
        content = CertRepMessage(response=[response], ca_pubs=[tlv(each) for each in self.ca_pubs] or None)
        return self.build(message, ANSWERS[opening.body_type], content, nonce=nonce, info=info)

    def certify(self, subject: bytes, spki: bytes) -> bytes:
        now = datetime.now(UTC)
        digest = None if isinstance(self.ca.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        names = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, self.alternative_names or b"")
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_bytes(subject))
            .issuer_name(self.ca.certificate.subject)
            .public_key(serialization.load_der_public_key(spki))  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
        )
        builder = builder if self.alternative_names is None else builder.add_extension(names, critical=False)
        return builder.sign(self.ca.key, digest).public_bytes(serialization.Encoding.DER)

    def build(
        self,
        message: Message,
        body_type: BodyType,
        content: Any,
        *,
        nonce: bytes | None = None,
        info: list[InfoTypeAndValue] | tuple[()] = (),
    ) -> bytes:
        return reply(message, body_type, content, self.protector, nonce=nonce, info=info, extra=(self.ca.der,))


def reply(
    message: Message,
    body_type: BodyType,
    content: Any,
    protector: Protector | None,
    *,
    nonce: bytes | None = None,
    info: list[InfoTypeAndValue] | tuple[()] = (),
    extra: tuple[bytes, ...] = (),
    **fields: Any,
) -> bytes:
    """An answer to ``message``; ``fields`` replace those of a right header."""
    header = make_header(
        pvno=message.header.pvno,
        sender=b"0\x00" if protector is None else protector.sender_name,
        recipient=message.sender or b"0\x00",
        transaction_id=message.transaction_id,
        sender_nonce=os.urandom(16),
        recip_nonce=nonce or message.sender_nonce,
        general_info=info,
    )
    header = dataclasses.replace(header, **fields)
    body = encode_body(body_type, content)
    if protector is None:
        return assemble(protected_part(header, body_type, body), None, extra)
    return protect(header, body_type, body, protector, extra)


def refusal(failure: FailureInfo, text: str) -> ErrorMsgContent:
    """The content of an error message."""
    return ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.REJECTION, text, failure=failure))
