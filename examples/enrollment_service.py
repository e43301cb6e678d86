"""An enrollment service: JSON over HTTP in front, for people who know no CMP, and a CMP CA behind. With FastAPI.

A POST of a CSR brings a certificate. Where the CA needs time, the answer is 202 and a place to ask again; the waiting
enrollment is kept by the caller's own id, so another worker could take it over (``Pending.save``).

    pip install 'opensslcmp[async]' fastapi uvicorn
    CMP_SERVER=http://ca.example/.well-known/cmp CMP_REFERENCE=ra CMP_SECRET=... uvicorn enrollment_service:make_app --factory
    python examples/enrollment_service.py          shows it with a CA of its own, without a socket
"""

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel

from opensslcmp import AsyncSession, Context, Issued, Pending, Rejected, SharedSecret, TransportError
from opensslcmp.server import CA, open_responder
from opensslcmp.transport import InProcess


class Order(BaseModel):
    """What a caller sends."""

    csr: str


def make_app(way: Any = None) -> FastAPI:
    """The service. One AsyncSession serves all requests at once: thousands may wait for the CA in one process."""
    context = Context(
        os.environ.get("CMP_SERVER"),
        credential=SharedSecret(os.environ["CMP_REFERENCE"], os.environ["CMP_SECRET"].encode()),
    )
    waiting: dict[str, bytes] = {}  # of one worker; several would keep it in a database

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncSession(context, way) as session:
            app.state.session = session
            yield

    app = FastAPI(title="Enrollment", lifespan=life)

    def told(result: Issued | Pending, response: Response, key: str) -> dict[str, Any]:
        if isinstance(result, Pending):
            waiting[key] = result.save()
            response.status_code = 202
            response.headers["Retry-After"] = str(int(result.check_after_seconds))
            return {"id": key}
        waiting.pop(key, None)
        chain = (result.certificate, *result.chain)
        return {"certificate": "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in chain)}

    async def asked(operation: Any, response: Response, key: str) -> dict[str, Any]:
        try:
            return told(await operation, response, key)
        except Rejected as refusal:  # the CA's own words are for the caller
            waiting.pop(key, None)
            raise HTTPException(
                403, {"failures": [each.text for each in refusal.failures], "text": refusal.text}
            ) from None
        except TransportError as error:
            raise HTTPException(502, str(error)) from None

    @app.post("/certificates")
    async def enroll(order: Order, response: Response) -> dict[str, Any]:
        try:
            csr = x509.load_pem_x509_csr(order.csr.encode())
        except ValueError:
            raise HTTPException(422, "not a CSR in PEM") from None
        return await asked(app.state.session.enroll_csr(csr, wait=False), response, str(uuid.uuid4()))

    @app.get("/certificates/{key}")
    async def again(key: str, response: Response) -> dict[str, Any]:
        if key not in waiting:
            raise HTTPException(404, "nothing waits under this id")
        return await asked(app.state.session.resume(Pending.load(waiting[key]), wait=False), response, key)

    return app


async def show(app: FastAPI, csr: str) -> None:
    web = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")
    async with app.router.lifespan_context(app), web as client:
        answer = await client.post("/certificates", json={"csr": csr})
        print(answer.status_code, answer.json()["certificate"])
        print((await client.post("/certificates", json={"csr": "nonsense"})).status_code)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        ca = CA.create(directory, "CN=Example CA")
        os.environ |= {"CMP_REFERENCE": "ra", "CMP_SECRET": ca.add_secret("ra").decode()}
        ca.close()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device-1")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name)
        text = csr.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(
            serialization.Encoding.PEM
        )
        responder = open_responder(directory)
        asyncio.run(show(make_app(InProcess(responder)), text.decode()))
        responder.close()


if __name__ == "__main__":
    main()
