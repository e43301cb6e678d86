"""An authority that hands issuing to an HTTP API, without blocking, and may be told "later".

Run it:  python examples/authority_http.py

    POST /orders       {"subject", "public_key", "requester"}, Idempotency-Key: the transaction's id
                       201 {"certificate"}   issued          202 {"order", "retry_after"}   somebody decides
                       422 {"reason"}        refused
    GET  /orders/ID    200 {"certificate"}, 202, or 422, as above

What else comes, or nothing in time, is systemFailure: the requester may ask again, under the same transaction id or another.
"""

import asyncio
import json
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from opensslcmp import AsyncSession, Context, FailureInfo, Rejected, SharedSecret, Signer
from opensslcmp.asn1 import InfoTypeAndValue
from opensslcmp.server import (
    CA,
    CertificateRequest,
    FoundSecret,
    InfoRequest,
    Issued,
    MemoryStore,
    Pending,
    Responder,
    RevocationRequest,
)

LONGEST = 64 * 1024


class HTTPAuthority:
    """Asks an API. Its methods are coroutine functions: for ``Responder.handle_async``, which ``opensslcmp serve`` uses.

    Args:
        url: of the API, without a slash at its end.
        issuer: the certificate that the API issues under.
        timeout_seconds: for each of its answers.
    """

    def __init__(self, url: str, issuer: x509.Certificate, timeout_seconds: float = 10.0) -> None:
        self.url = url
        self.issuer = issuer
        self.timeout_seconds = timeout_seconds

    async def issue(self, request: CertificateRequest) -> Issued | Pending:
        """A certificate from the API, or "later"."""
        if request.pending is not None:  # we were told "later", and which order it is
            status, told = await self._ask("GET", f"/orders/{request.pending.decode()}")
        else:
            pem = load_der_public_key(request.public_key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            order = {
                "subject": x509.Name.from_bytes(request.subject or b"0\0").rfc4514_string(),
                "public_key": pem.decode(),
                "requester": request.requester.identity.decode("ascii", "backslashreplace"),
            }
            key = f"{request.transaction_id.hex()}-{request.cert_req_id}"
            status, told = await self._ask("POST", "/orders", order, key)
        if status == 202:
            order_id = str(told["order"])
            if not order_id.isalnum():
                raise RuntimeError("an order of the API has a name that is not fit for a URL")
            wait = min(max(int(told.get("retry_after", 60)), 1), 3600)
            return Pending(check_after_seconds=wait, text="somebody decides", reference=order_id.encode())
        if status == 422:
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, str(told.get("reason", "refused"))[:200])
        if status not in {200, 201}:
            raise RuntimeError(f"the API answered {status}")
        issued = x509.load_pem_x509_certificate(told["certificate"].encode())
        if issued.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != request.public_key:
            raise RuntimeError("the API certified another key")
        issued.verify_directly_issued_by(self.issuer)
        chain = (self.issuer.public_bytes(Encoding.DER),)
        return Issued(certificate=issued.public_bytes(Encoding.DER), chain=chain, ca_certificates=chain)

    async def confirm(self, issued: Issued, accepted: bool) -> None:
        """This API does not want to know."""

    async def revoke(self, request: RevocationRequest) -> None:
        """This API does not revoke."""
        raise Rejected(FailureInfo.NOT_AUTHORIZED, "revoked by telephone only")

    async def info(self, request: InfoRequest) -> list[InfoTypeAndValue]:
        """Nothing is known here."""
        return []

    async def _ask(
        self, method: str, path: str, order: Any = None, key: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and content; the standard library's client in a thread. Put the asynchronous one that you use in its place."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        body = None if order is None else json.dumps(order).encode()
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)

        def send() -> tuple[int, dict[str, Any]]:
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_seconds) as answer:
                    return answer.status, json.loads(answer.read(LONGEST))
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.loads(error.read(LONGEST) or b"{}")

        return await asyncio.to_thread(send)


@contextmanager
def stand_in() -> Iterator[tuple[str, x509.Certificate]]:
    """In place of your API: URL and certificate. Who is not called device-1 waits once."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=API CA")
    now = datetime.now(UTC)

    def certify(subject: x509.Name, public_key: Any, ca: bool = False) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(public_key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
        builder = builder.not_valid_after(now + timedelta(days=30))
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        return builder.sign(key, hashes.SHA256())

    orders: dict[str, dict[str, str]] = {}

    class API(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "device" not in order["subject"]:
                self._say(422, {"reason": "no such device"})
            elif order["subject"] == "CN=device-1":
                self._say(201, {"certificate": self._certificate(order)})
            else:
                orders[number := str(len(orders) + 1)] = order
                self._say(202, {"order": number, "retry_after": 1})

        def do_GET(self) -> None:
            self._say(200, {"certificate": self._certificate(orders[self.path.rpartition("/")[2]])})

        def _certificate(self, order: dict[str, str]) -> str:
            public_key = load_pem_public_key(order["public_key"].encode())
            issued = certify(x509.Name.from_rfc4514_string(order["subject"]), public_key)
            return issued.public_bytes(Encoding.PEM).decode()

        def _say(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), API)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", certify(name, key.public_key(), ca=True)
    finally:
        server.shutdown()
        server.server_close()


async def enroll_all(responder: Responder) -> None:
    session = AsyncSession(Context(credential=SharedSecret("factory", b"a secret")), responder.handle_async)
    for name in ("device-1", "device-2", "toaster"):
        try:
            issued = await session.enroll(f"CN={name}", generate="ec:P-256")
        except Rejected as error:
            print(f"{name}: {error}")
        else:
            print(f"{name}: certificate {issued.certificate.serial_number:x}")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, stand_in() as (url, issuer):
        messages = CA.create(directory, "CN=CMP Server")
        with open(f"{directory}/ca.key", "rb") as file:
            signer = Signer(messages.certificate, file.read())
        responder = Responder(
            HTTPAuthority(url, issuer),  # type: ignore[arg-type] # coroutine functions, for handle_async
            MemoryStore(),
            signer,
            secrets=lambda reference: FoundSecret(value=b"a secret") if reference == b"factory" else None,
        )
        asyncio.run(enroll_all(responder))
        messages.close()


if __name__ == "__main__":
    main()
