"""An authority that hands issuing to a command of yours: subject and public key go in as JSON, a certificate comes out.

Run it:  python examples/authority_command.py

The command is started without a shell. It reads one JSON object from stdin, and ends

    with 0, and the certificate in PEM on stdout: it is issued;
    with 1, and a reason on stdout: the requester is told badCertTemplate and the reason;
    otherwise, or too late: the requester is told systemFailure, and the log has the rest.

It may be called twice for one request, when another process of the server was faster; "transaction" is the same then.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from opensslcmp import Context, FailureInfo, Rejected, Session, SharedSecret, Signer
from opensslcmp.asn1 import InfoTypeAndValue
from opensslcmp.context.certificates import Trust
from opensslcmp.server import (
    CertificateRequest,
    FoundSecret,
    InfoRequest,
    Issued,
    MemoryStore,
    Responder,
    RevocationRequest,
)
from opensslcmp.transport import InProcess

LONGEST = 64 * 1024


class CommandAuthority:
    """Asks a command. It blocks while that runs: give a server ``hub.InThreads(CommandAuthority(...))``.

    Args:
        command: program and arguments; nothing of a requester is ever put among them.
        issuer: the certificate that the command issues under.
        timeout_seconds: after which the command is killed.
    """

    def __init__(self, command: Sequence[str], issuer: x509.Certificate, timeout_seconds: float = 20.0) -> None:
        self.command = list(command)
        self.issuer = issuer
        self.timeout_seconds = timeout_seconds

    def issue(self, request: CertificateRequest) -> Issued:
        """A certificate from the command."""
        pem = load_der_public_key(request.public_key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        certificate = self._run(
            {
                "do": "issue",
                "subject": x509.Name.from_bytes(request.subject or b"0\0").rfc4514_string(),
                "public_key": pem.decode(),
                "requester": request.requester.identity.decode("ascii", "backslashreplace"),
                "transaction": request.transaction_id.hex(),
            }
        )
        issued = x509.load_pem_x509_certificate(certificate)
        # What leaves is what was asked for, whatever the command does.
        spki = issued.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if spki != request.public_key:
            raise RuntimeError("the command certified another key")
        issued.verify_directly_issued_by(self.issuer)
        chain = (self.issuer.public_bytes(Encoding.DER),)
        return Issued(certificate=issued.public_bytes(Encoding.DER), chain=chain, ca_certificates=chain)

    def confirm(self, issued: Issued, accepted: bool) -> None:
        """Tells the command of a certificate that nobody took."""
        if not accepted:
            serial = x509.load_der_x509_certificate(issued.certificate).serial_number
            self._run({"do": "revoke", "serial": f"{serial:x}", "reason": "unspecified"})

    def revoke(self, request: RevocationRequest) -> None:
        """Has the command revoke it."""
        self._run({"do": "revoke", "serial": f"{request.serial_number:x}", "reason": request.reason.text})

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue]:
        """Nothing is known here."""
        return []

    def _run(self, order: dict[str, Any]) -> bytes:
        # A timeout is an exception, and so systemFailure. The command gets no environment of ours but PATH.
        done = subprocess.run(
            self.command,
            input=json.dumps(order).encode(),
            capture_output=True,
            timeout=self.timeout_seconds,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
        )
        if done.returncode == 1:
            reason = done.stdout.decode("utf-8", "replace").strip()[:200]
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, reason or "refused")
        if done.returncode != 0 or len(done.stdout) > LONGEST:
            raise RuntimeError(f"the command ended with {done.returncode}: {done.stderr[-500:]!r}")
        return done.stdout


STAND_IN = """
import datetime, json, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

order = json.load(sys.stdin)
if order["do"] != "issue":
    sys.exit(0)
if "device" not in order["subject"]:
    print("no such device")
    sys.exit(1)
ca = open(sys.argv[1], "rb").read()
issuer = x509.load_pem_x509_certificate(ca)
now = datetime.datetime.now(datetime.timezone.utc)
certificate = (
    x509.CertificateBuilder()
    .subject_name(x509.Name.from_rfc4514_string(order["subject"]))
    .issuer_name(issuer.subject)
    .public_key(serialization.load_pem_public_key(order["public_key"].encode()))
    .serial_number(x509.random_serial_number())
    .not_valid_before(now)
    .not_valid_after(now + datetime.timedelta(days=30))
    .sign(serialization.load_pem_private_key(ca, None), hashes.SHA256())
)
print(certificate.public_bytes(serialization.Encoding.PEM).decode())
"""
"""In place of your command."""


def main() -> None:
    from opensslcmp.server import CA

    with tempfile.TemporaryDirectory() as directory:
        # A CA of somebody else's, which only the command has the key of; and our own for messages.
        other = CA.create(Path(directory) / "issuing", "CN=Issuing CA")
        other.close()
        both = Path(directory) / "both.pem"
        parts = ("ca.pem", "ca.key")
        both.write_bytes(b"".join((Path(directory) / "issuing" / part).read_bytes() for part in parts))
        issuer = x509.load_der_x509_certificate(other.certificate)
        messages = CA.create(Path(directory) / "messages", "CN=CMP Server")
        authority = CommandAuthority([sys.executable, "-c", STAND_IN, str(both)], issuer)
        responder = Responder(
            authority,
            MemoryStore(),
            Signer(messages.certificate, (Path(directory) / "messages" / "ca.key").read_bytes()),
            secrets=lambda reference: FoundSecret(value=b"a secret") if reference == b"factory" else None,
            trust=Trust([other.certificate]),
        )
        session = Session(Context(credential=SharedSecret("factory", b"a secret")), InProcess(responder))
        for name in ("device-1", "toaster"):
            try:
                issued = session.enroll(f"CN={name}", generate="ec:P-256")
            except Rejected as error:
                print(f"{name}: {error}")
            else:
                print(f"{name}: certificate {issued.certificate.serial_number:x}")
        messages.close()


if __name__ == "__main__":
    main()
