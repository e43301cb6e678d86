"""A program of a user's, as type checkers see it: mypy --strict and pyright have nothing to say about it."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import assert_type

from cryptography import x509

from opensslcmp import (
    TLS,
    AsyncSession,
    Context,
    FailureInfo,
    Info,
    Issued,
    Journal,
    MacParameters,
    Order,
    Outcome,
    Pending,
    PrivateKey,
    Rejected,
    RequestTemplate,
    Retry,
    RevocationReason,
    Revoked,
    RootCaUpdate,
    Session,
    SharedSecret,
    Signer,
    TransportError,
)
from opensslcmp.asn1 import InfoTypeAndValue
from opensslcmp.server import (
    Authority,
    CertificateRequest,
    InfoRequest,
    MemoryStore,
    Responder,
    RevocationRequest,
)
from opensslcmp.server import Issued as IssuedByUs
from opensslcmp.server import Pending as Later
from opensslcmp.testing import CA, Reject


def context_of(url: str) -> Context:
    secret = SharedSecret("device-1", b"secret", parameters=MacParameters(iterations=2048))
    return Context(url, credential=secret, retry=Retry(attempts=3), tls=TLS(), trusted=Path("ca.pem"))


def enroll(session: Session) -> Issued:
    issued = session.enroll("CN=device-1", generate="ec:P-256", subject_alternative_names=[x509.DNSName("device-1")])
    assert_type(issued, Issued)
    assert_type(issued.certificate, x509.Certificate)
    assert_type(issued.key, PrivateKey | None)
    return issued


def may_wait(session: Session, wait: bool) -> None:
    assert_type(session.enroll("CN=device-1", generate="ec:P-256", wait=wait), Issued | Pending)
    assert_type(session.update(generate="ec:P-256"), Issued)
    assert_type(session.enroll_csr(b"-----BEGIN..."), Issued)
    assert_type(session.revoke(reason=RevocationReason.SUPERSEDED), Revoked)
    assert_type(session.request_info("1.3.6.1.5.5.7.4.17"), tuple[Info, ...])
    assert_type(session.ca_certificates(), tuple[x509.Certificate, ...])
    assert_type(session.root_ca_update(), RootCaUpdate | None)
    assert_type(session.certificate_request_template(), RequestTemplate | None)
    assert_type(session.crl_update(), x509.CertificateRevocationList | None)


def refused(session: Session) -> FailureInfo | None:
    try:
        enroll(session)
    except Rejected as error:
        return error.failure
    except TransportError as error:
        assert_type(error.http_status, int | None)
    return None


def fleet(session: Session, names: Iterable[str]) -> list[str | None]:
    orders = (Order(subject=f"CN={name}", generate="ec:P-256", label=name) for name in names)
    found: list[str | None] = []
    for outcome in session.enroll_many(orders):
        assert_type(outcome, Outcome)
        found.append(outcome.label)
    return found


async def many(context: Context) -> list[Issued]:
    async with AsyncSession(context) as session:
        assert_type(await session.revoke(), Revoked)
        return await asyncio.gather(*(session.enroll(f"CN={number}", generate="ec:P-256") for number in range(3)))


class Mine:
    """An authority."""

    def issue(self, request: CertificateRequest) -> IssuedByUs | Later:
        return Later(check_after_seconds=5) if request.subject is None else IssuedByUs(certificate=b"")

    def confirm(self, issued: IssuedByUs, accepted: bool) -> None:
        return None

    def revoke(self, request: RevocationRequest) -> None:
        raise Rejected(FailureInfo.NOT_AUTHORIZED, "not here")

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue]:
        return []


def serve(signer: Signer) -> bytes:
    authority: Authority = Mine()
    responder = Responder(authority, MemoryStore(), signer, secrets=lambda reference: None)
    return responder.handle(b"")


def test_ours(cmp_ca: CA, cmp_session: Session) -> None:
    with cmp_ca.misbehave(Reject(FailureInfo.BAD_POP)):
        assert refused(cmp_session) is FailureInfo.BAD_POP


def journal(path: Path, context: Context) -> Session:
    return Session(context, journal=Journal(path, password=b"secret"))
