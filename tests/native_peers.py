"""A small CA behind OpenSSL's own CMP server, and clients of it, for the tests of the lowest layers."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from opensslcmp.asn1 import PKIStatusInfo
from opensslcmp.context.client import ClientContext
from opensslcmp.context.server import CertificateAnswer, ServerContext
from opensslcmp.enums import PKIStatus

DAY = timedelta(days=1)
REFERENCE, SECRET = b"device-1", b"correct horse battery staple"


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def issue(
    subject: x509.Name,
    public_key: Any,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool = False,
    extensions: Iterable[x509.ExtensionType] = (),
) -> x509.Certificate:
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 30 * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@dataclass
class Party:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return der(self.certificate)

    @property
    def key_der(self) -> bytes:
        return key_der(self.key)

    def issue(self, common_name: str, *extensions: x509.ExtensionType) -> "Party":
        key = new_key()
        made = issue(name(common_name), key.public_key(), self.certificate.subject, self.key, extensions=extensions)
        return Party(made, key)


@functools.cache
def root() -> Party:
    key = new_key()
    subject = name("Test Root")
    return Party(issue(subject, key.public_key(), subject, key, ca=True), key)


@functools.cache
def server_party() -> Party:
    return root().issue("Test Server")


@functools.cache
def device_party() -> Party:
    return root().issue("device-1")


@dataclass
class CA:
    """Answers everything with yes, and remembers what it was asked."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)
    subject: str = "device-1"
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    waits: int = 0

    def certificate(self, message: bytes, request_id: int, crm: bytes | None, csr: bytes | None) -> CertificateAnswer:
        self.asked.append(("certificate", request_id, crm, csr))
        if self.waits:
            self.waits -= 1
            self.waiting = message
            return CertificateAnswer()
        made = issue(name(self.subject), self.key.public_key(), root().certificate.subject, root().key)
        return CertificateAnswer(certificate=der(made), chain=[root().der], ca_certificates=[root().der])

    def revocation(self, message: bytes, issuer: bytes | None, serial: bytes | None) -> PKIStatusInfo:
        self.asked.append(("revocation", issuer, serial))
        return PKIStatusInfo.make(PKIStatus.ACCEPTED)

    def info(self, message: bytes, infos: tuple[bytes, ...]) -> tuple[bytes, ...]:
        self.asked.append(("info", infos))
        return infos

    def error(self, message: bytes, status: PKIStatusInfo, code: int | None, details: tuple[str, ...]) -> None:
        self.asked.append(("error", status, code, details))

    def confirmation(self, message: bytes, request_id: int, cert_hash: bytes, status: PKIStatusInfo | None) -> None:
        self.asked.append(("confirmation", request_id, cert_hash, status))

    def poll(self, message: bytes, request_id: int) -> int | bytes:
        self.asked.append(("poll", request_id))
        if self.waits:
            self.waits -= 1
            return 1
        return self.waiting


def make_server(ca: CA, *, mac: bool = True, **more: Any) -> ServerContext:
    callbacks: dict[str, Any] = {
        kind: getattr(ca, kind) for kind in ("certificate", "revocation", "info", "error", "confirmation", "poll")
    }
    server = ServerContext(**{**callbacks, **more})
    if mac:
        server.context.reference, server.context.secret = REFERENCE, SECRET
    else:
        server.context.certificate = server_party().der
        server.context.set_key(server_party().key_der)
        server.context.trust([root().der])
    return server


def make_client(transfer: Callable[[bytes], bytes] | None, ca: CA, *, mac: bool = True, **more: Any) -> ClientContext:
    client = ClientContext(transfer, **more)
    if mac:
        client.reference, client.secret = REFERENCE, SECRET
    else:
        client.certificate = device_party().der
        client.set_key(device_party().key_der)
        client.trust([root().der])
    client.recipient = name("Test Server").public_bytes()
    client.subject = name(ca.subject).public_bytes()
    client.set_new_key(key_der(ca.key))
    return client


def make_pair(*, mac: bool = True, **more: Any) -> tuple[ClientContext, ServerContext, CA]:
    """A client that is connected to a server over DER."""
    ca = CA()
    server = make_server(ca, mac=mac)
    return make_client(server.process, ca, mac=mac, **more), server, ca
