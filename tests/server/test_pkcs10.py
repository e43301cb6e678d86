"""PKCS10Authority: a CA that knows only PKCS#10, by a command or an HTTP service."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.client.context import Context
from opensslcmp.client.pending import Pending as ClientPending
from opensslcmp.client.session import Session
from opensslcmp.credentials import Signer
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import Rejected
from opensslcmp.server.memory import MemoryStore
from opensslcmp.server.pkcs10 import Decision, PKCS10Authority, by_command, by_http
from opensslcmp.server.responder import Responder
from tests.server.device import KEYS, csr, mac_device
from tests.server.ra_world import SECRET, secret_of
from tests.server.world import Clock, World, fresh_world, other_ca, own_ca

DEVICE = KEYS[1]


class Line:
    """A world whose CA is asked by PKCS#10: what it was asked, and what it says."""

    def __init__(self, **options: Any) -> None:
        self.world: World = fresh_world()
        self.world.ca.add_secret("ra", "secret")
        self.asked: list[tuple[bytes, str]] = []
        self.says: Decision | Exception | None = None
        certificate, key = own_ca()
        authority = PKCS10Authority(self.ask, certificate, **options)
        self.clock = Clock()
        self.responder = Responder(
            authority, MemoryStore(), Signer(certificate, key), secrets=secret_of, clock=self.clock
        )
        self.session = Session(Context(credential=SECRET, trusted=[certificate]), self.responder.handle)

    def ask(self, request: bytes, name: str) -> Decision:
        self.asked.append((request, name))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says or Decision(certificates=self.certify(request))

    def certify(self, request: bytes) -> bytes:
        """In PEM, by the CA of the world."""
        found = x509.load_pem_x509_csr(request).public_bytes(Encoding.DER)
        answer = mac_device(self.world.responder.handle, self.world.clock, "ra", "secret").ask(BodyType.P10CR, found)
        return x509.load_der_x509_certificate(answer.content().response[0].certificate).public_bytes(Encoding.PEM)


def test_the_request_goes_up_as_the_entity_signed_it() -> None:
    line = Line()
    request_der = csr(DEVICE)
    issued = line.session.enroll_csr(request_der)
    assert issued.certificate.subject.rfc4514_string() == "CN=device"
    ((request, name),) = line.asked
    assert x509.load_pem_x509_csr(request).public_bytes(Encoding.DER) == request_der
    assert name == issued.transaction_id.hex()


def test_other_requests_hold_none() -> None:
    with pytest.raises(Rejected, match=r"badRequest: .*p10cr"):
        Line().session.enroll("CN=device", DEVICE)


def test_what_is_not_decided_is_asked_for_again() -> None:
    line = Line()
    line.says = Decision(check_after_seconds=30)
    pending = line.session.enroll_csr(csr(DEVICE), wait=False)
    assert isinstance(pending, ClientPending)
    line.says = None
    line.session.resume(pending)
    assert line.asked[0] == line.asked[1]


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (Decision(text="no such device"), "badCertTemplate: no such device"),
        (OSError("not there"), "systemUnavail"),
        (Decision(certificates=b"nonsense"), "systemFailure"),
        (Decision(certificates=own_ca()[0]), "systemFailure"),
        (Decision(certificates=other_ca()[0]), "systemFailure"),
    ],
)
def test_what_is_no_certificate_for_the_key_by_the_issuer_never_reaches_an_entity(says: Any, words: str) -> None:
    line = Line()
    line.says = says
    with pytest.raises(Rejected, match=words):
        line.session.enroll_csr(csr(DEVICE))


def test_revocation_is_told_where_it_can_be() -> None:
    told: list[Any] = []
    line = Line(revoke=lambda *order: told.append(order))

    def refuse(issued: Any) -> None:
        raise Rejected(FailureInfo.INCORRECT_DATA, "not mine")

    with pytest.raises(Rejected, match="not mine"):
        line.session.enroll_csr(csr(DEVICE), confirm=refuse)
    ((_, serial, reason),) = told
    assert serial > 0
    assert reason == "unspecified"


SCRIPT = """
import os, sys
request = sys.stdin.read()
assert "BEGIN CERTIFICATE REQUEST" in request and os.environ["TRANSACTION"] == "00ff"
print({said!r})
sys.exit({code})
"""


@pytest.mark.parametrize(
    ("code", "said", "decision"),
    [
        (0, "a certificate", Decision(certificates=b"a certificate\n")),
        (1, "no such device", Decision(text="no such device")),
        (2, "30", Decision(check_after_seconds=30)),
    ],
)
def test_a_command_decides_by_its_exit_code(code: int, said: str, decision: Decision) -> None:
    ask = by_command([sys.executable, "-c", SCRIPT.format(said=said, code=code)])
    assert ask(b"-----BEGIN CERTIFICATE REQUEST-----", "00ff") == decision


def test_a_command_that_fails_has_not_decided() -> None:
    with pytest.raises(ValueError, match="ended with 9"):
        by_command([sys.executable, "-c", "import sys; sys.exit(9)"])(b"", "")


@pytest.fixture
def service() -> Iterator[tuple[str, dict[str, Any]]]:
    """A service on a port of this machine, and what it answers and was asked."""
    state: dict[str, Any] = {"status": 200, "content": b"a certificate"}

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state["asked"] = self.rfile.read(int(self.headers["Content-Length"])), self.headers["Idempotency-Key"]
            self.send_response(state["status"])
            self.send_header("Retry-After", "30")
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(state["content"])))
            self.end_headers()
            self.wfile.write(state["content"])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "decision"),
    [
        (201, Decision(certificates=b"a certificate")),
        (202, Decision(check_after_seconds=30)),
        (422, Decision(text="a certificate")),
    ],
)
def test_a_service_decides_by_its_status(service: tuple[str, dict[str, Any]], status: int, decision: Decision) -> None:
    url, state = service
    state["status"] = status
    assert by_http(url)(b"request", "00ff") == decision
    assert state["asked"] == (b"request", "00ff")


@pytest.mark.parametrize("status", [302, 500])
def test_a_service_that_fails_has_not_decided(service: tuple[str, dict[str, Any]], status: int) -> None:
    url, state = service
    state["status"] = status
    with pytest.raises(OSError, match=str(status)):
        by_http(url)(b"request", "00ff")
    with pytest.raises(ValueError, match="HTTP"):
        by_http("ftp://example/")
