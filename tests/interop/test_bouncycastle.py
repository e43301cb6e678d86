"""Bouncy Castle (Debian's libbcpkix-java) as client, as server, and as a source of messages of every body type."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
from cryptography import x509

from opensslcmp import Context, ProtectionKind, Session, SharedSecret, Signer
from opensslcmp.asn1 import admit, describe
from opensslcmp.enums import BodyType, RevocationReason
from opensslcmp.server.ca import CA
from opensslcmp.server.store import certificate_key
from tests.interop.bouncycastle import ENVIRONMENT, command, lines, messages, missing
from tests.server.web_client import running

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")
SECRET = SharedSecret("bouncy", "correct horse")


def test_bouncy_castle_enrolls_updates_asks_and_revokes(tmp_path: Path) -> None:
    ca = CA.create(tmp_path / "ca", subject="CN=Interop CA")
    ca.add_secret("bouncy", "correct horse")
    ca.close()
    with running("-m", "opensslcmp", "serve", str(tmp_path / "ca"), "--port", "0") as (url, _, _):
        told = lines("client", url)
    steps = dict(told)
    assert list(steps) == ["ir", "ir implicit", "p10cr", "cr", "kur", "genm", "rr"]
    assert steps["genm"] == b"1"
    states = {}
    ca = CA.open(tmp_path / "ca")
    for step in ("ir", "ir implicit", "p10cr", "cr", "kur"):
        certificate = x509.load_der_x509_certificate(steps[step])
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(ca.certificate))
        assert certificate.subject.rfc4514_string() == "CN=bouncy"
        record = ca.store.certificate(certificate_key(certificate.issuer.public_bytes(), certificate.serial_number))
        assert record is not None
        states[step] = record.state
    ca.close()
    assert {step: state.name for step, state in states.items()} == {
        "ir": "UPDATED",
        "ir implicit": "VALID",
        "p10cr": "VALID",
        "cr": "VALID",
        "kur": "REVOKED",
    }


class BouncyServer:
    """A server in Java as a transport; ``certificate`` is its CA's."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            command("server"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        self.certificate = x509.load_der_x509_certificate(base64.b64decode(self._line().split()[1]))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the Java program has ended"
        return line

    def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
        assert self._process.stdin is not None
        self._process.stdin.write(base64.b64encode(request).decode() + "\n")
        self._process.stdin.flush()
        return base64.b64decode(self._line())

    def __enter__(self) -> BouncyServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._process:
            self._process.kill()


@pytest.fixture(scope="module")
def bouncy() -> Iterator[BouncyServer]:
    with BouncyServer() as server:
        yield server


def test_our_client_enrolls_updates_asks_and_revokes_at_bouncy_castle(bouncy: BouncyServer) -> None:
    first = Session(Context(credential=SECRET), bouncy).enroll("CN=device", generate="ec:P-256")
    assert first.protection.kind is ProtectionKind.MAC
    first.certificate.verify_directly_issued_by(bouncy.certificate)
    signing = Context(credential=Signer(first.certificate, first.key), trusted=[bouncy.certificate])
    session = Session(signing, bouncy)
    assert session.enroll("CN=other", generate="ed25519", kind="cr").certificate.subject.rfc4514_string() == "CN=other"
    updated = session.update(generate="rsa:2048")
    assert updated.protection.kind is ProtectionKind.SIGNATURE
    assert session.ca_certificates() == (bouncy.certificate,)
    assert session.revoke(reason=RevocationReason.SUPERSEDED).protection.kind is ProtectionKind.SIGNATURE


def test_messages_of_every_body_type_are_read_and_shown() -> None:
    seen = set()
    for name, message in messages():
        admitted = admit(message)
        admitted.content()
        assert admitted.transaction_id is not None
        shown = describe(message)
        assert "problem" not in shown, (name, shown)
        assert shown["type"] == name.partition("/")[0].partition("-")[0]
        assert shown["header"]["transactionID"] == admitted.transaction_id.hex()
        seen.add(admitted.body_type)
    assert seen == set(BodyType)
