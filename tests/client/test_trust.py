"""Whom a client trusts: TLS and CMP apart, and nothing that an answer brings along."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import TLS, Context, ProtectionError, Session, SharedSecret, Signer, TransportError
from opensslcmp.server import CA, Responder, open_responder
from opensslcmp.server.store import CertificateState
from opensslcmp.transport import InProcess
from tests.context.issuing import ROOT
from tests.transport.http_peers import Authority, Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[CA, Responder, SharedSecret]]:
    ca = CA.create(tmp_path / "ca")
    secret = SharedSecret("device", ca.add_secret("device"))
    ca.close()
    with contextlib.closing(open_responder(tmp_path / "ca")) as responder:
        yield ca, responder, secret


def test_trust_of_tls_is_no_trust_of_signatures_in_messages(server: tuple[CA, Responder, SharedSecret]) -> None:
    ca, responder, secret = server
    way = InProcess(responder)
    first = Session(Context(credential=secret), way).enroll("CN=device", generate="ec:P-256")
    signer = Signer(first.certificate, first.key, first.chain)
    context = Context(credential=signer, trusted=ROOT, tls=TLS(trusted=ca.certificate))
    with pytest.raises(ProtectionError, match="not trusted"):
        Session(context, way).ca_certificates()
    context = Context(credential=signer, trusted=ca.certificate, tls=TLS(trusted=ROOT))
    assert Session(context, way).ca_certificates()


def test_trust_of_signatures_in_messages_is_no_trust_of_tls(tmp_path: Path) -> None:
    ours, other = Authority(), Authority("Somebody else")
    secret = SharedSecret("device", "correct horse")
    with Server(tls=ours.server_context(tmp_path, "127.0.0.1")) as peer:
        context = Context(peer.url, credential=secret, trusted=ours.certificate, tls=TLS(trusted=other.certificate))
        with contextlib.closing(context), pytest.raises(TransportError, match="certificate was refused"):
            Session(context).ca_certificates()
        assert not peer.requests


def test_what_an_answer_brings_is_handed_out_and_not_trusted(server: tuple[CA, Responder, SharedSecret]) -> None:
    ca, responder, secret = server
    way = InProcess(responder)
    context = Context(credential=secret)
    first = Session(context, way).enroll("CN=device", generate="ec:P-256")
    assert ca.certificate in [each.public_bytes(Encoding.DER) for each in first.ca_certificates]
    assert (context.trusted, context.trust, context.certificate_trust) == ((), None, None)
    # The same CA's signature is believed only by who says so.
    signer = Signer(first.certificate, first.key, first.chain)
    for trusted, believed in (((), False), (ROOT, False), (first.ca_certificates, True)):
        session = Session(Context(credential=signer, trusted=trusted), way)
        with contextlib.nullcontext() if believed else pytest.raises(ProtectionError):
            session.ca_certificates()


def test_a_new_certificate_of_an_issuer_that_is_not_trusted_is_rejected_in_certconf(
    server: tuple[CA, Responder, SharedSecret],
) -> None:
    _, responder, secret = server
    context = Context(credential=secret, certificates_trusted=ROOT)
    with pytest.raises(ProtectionError, match="not trusted"):
        Session(context, InProcess(responder)).enroll("CN=device", generate="ec:P-256")
    [record] = responder.store.every_certificate()
    assert record.state is CertificateState.REVOKED
