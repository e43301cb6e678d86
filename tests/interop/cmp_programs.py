"""``openssl cmp`` and ``opensslcmp cmp`` with the same arguments, before the same server, which writes down what they send."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from opensslcmp.asn1.inspect import describe
from opensslcmp.cli.cmp.program import main
from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import Trust
from opensslcmp.credentials import SharedSecret
from opensslcmp.server.authority import CertificateRequest, Pending
from opensslcmp.server.ca import CA
from opensslcmp.server.memory import MemoryStore
from opensslcmp.server.peer import Peer
from opensslcmp.server.responder import Responder
from opensslcmp.server.secret_book import FoundSecret
from tests import native_peers as peers

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()

CONFIG = """
base = /CN
[cmp]
ref = r1
secret = pass:s1
newkey = new.key
subject = $default::base=of-cmp
certout = cert.pem
[signed]
cert = dev.pem
key = dev.key
trusted = ca.pem
secret =
[quiet]
implicit_confirm = 1
subject = /CN=of-quiet
[loud]
implicit_confirm = 0
[extensions]
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
[names]
subjectAltName = DNS:of-section.example
[policies]
certificatePolicies = 1.2.3.4, @detailed
[detailed]
policyIdentifier = 1.3.5.8
CPS.1 = http://policy.example/
"""


@cache
def program_version() -> tuple[int, int]:
    """Of the ``openssl`` on the PATH."""
    text = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout
    match = re.match(r"OpenSSL (\d+)\.(\d+)", text)
    assert match
    return int(match[1]), int(match[2])


class _Waiting:
    """An authority that lets everybody wait once, for no time at all, or for ever."""

    def __init__(self, ca: CA, *, ever: bool = False) -> None:
        self._ca = ca
        self._ever = ever
        self._seen: set[bytes] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ca, name)

    def issue(self, request: CertificateRequest) -> Any:
        if self._ever or request.transaction_id not in self._seen:
            self._seen.add(request.transaction_id)
            return Pending(check_after_seconds=6000 * self._ever, reference=b"once")
        return self._ca.issue(request)


@dataclass
class Ran:
    """How a program ended, what it sent and what files it left behind."""

    status: int
    sent: list[Any]
    files: dict[str, Any]
    out: str
    err: str
    directory: Path


class World:
    """A CA, its server on a port of this machine, and the files of a client."""

    def __init__(self, directory: Path) -> None:
        self.files = directory / "files"
        self.files.mkdir()
        self._runs = directory / "runs"
        self._runs.mkdir()
        self._count = 0
        self.ca = CA.create(directory / "ca", subject="CN=Interop CA", key="ec:P-256")
        self.received: list[tuple[str, str, bytes]] = []
        self.keep_alive = True
        store = MemoryStore()
        options: dict[str, Any] = {"secrets": _secret, "trust": Trust([self.ca.certificate])}
        self.responder = Responder(self.ca, store, self.ca.signer, **options)
        self._responders = {
            "/waits": Responder(_Waiting(self.ca), store, self.ca.signer, **options),
            "/waits/on": Responder(_Waiting(self.ca, ever=True), store, self.ca.signer, **options),
        }
        self._server = self._listen()
        self._secure = self._listen()
        self._make_files()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.files / "server.pem", self.files / "server.key")
        context.load_verify_locations(self.files / "ca.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        self._secure.socket = context.wrap_socket(self._secure.socket, server_side=True)
        for server in (self._server, self._secure):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        for server in (self._server, self._secure):
            server.shutdown()
            server.server_close()
        self.ca.close()

    # -- the server -------------------------------------------------------------------------------------------------

    def _listen(self) -> ThreadingHTTPServer:
        world = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = self.rfile.read(int(self.headers["Content-Length"]))
                path = re.sub(r"^http://[^/]*", "", self.path)
                wished = self.headers.get("Connection", "").lower()
                scheme = "https" if isinstance(self.connection, ssl.SSLSocket) else "http"
                if path != self.path:
                    scheme = "proxy"
                world.received.append((scheme, path, request))
                answer = world._responders.get(path, world.responder).handle(request, Peer())
                self.close_connection = not (world.keep_alive and "keep-alive" in wished)
                self.send_response(200)
                self.send_header("Content-Type", "application/pkixcmp")
                self.send_header("Content-Length", str(len(answer)))
                self.send_header("Connection", "close" if self.close_connection else "keep-alive")
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- of the base class
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is none of our concern."""

        return Server(("127.0.0.1", 0), Handler)

    # -- the files ----------------------------------------------------------------------------------------------------

    def _make_files(self) -> None:
        ca = x509.load_der_x509_certificate(self.ca.certificate)
        other = peers.new_key()
        other_ca = peers.issue(peers.name("Other CA"), other.public_key(), peers.name("Other CA"), other, ca=True)
        key = peers.new_key()
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(peers.name("of-csr"))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("csr.example")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        device, device_key = self.enroll("device")
        server, server_key = self.enroll("127.0.0.1", x509.IPAddress(_loopback()), x509.DNSName("localhost"))
        for name, data in {
            "ca.pem": ca.public_bytes(PEM),
            "other.pem": other_ca.public_bytes(PEM),
            "both.pem": other_ca.public_bytes(PEM) + ca.public_bytes(PEM),
            "ca.crl": self.ca.crl(),
            "new.key": key.private_bytes(PEM, PKCS8, PLAIN),
            "new.der": key.private_bytes(serialization.Encoding.DER, PKCS8, PLAIN),
            "locked.key": key.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"pw")),
            "new.pub": key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            "new.csr": csr.public_bytes(PEM),
            "dev.pem": device.public_bytes(PEM),
            "dev.der": device.public_bytes(serialization.Encoding.DER),
            "dev.key": device_key.private_bytes(PEM, PKCS8, PLAIN),
            "chain.pem": device.public_bytes(PEM) + ca.public_bytes(PEM),
            "dev.p12": pkcs12.serialize_key_and_certificates(
                b"dev", device_key, device, [ca], serialization.BestAvailableEncryption(b"pw")
            ),
            "server.pem": server.public_bytes(PEM),
            "server.key": server_key.private_bytes(PEM, PKCS8, PLAIN),
            "pw.txt": b"pw\n",
            "s1.txt": b"s1\nsecond line\n",
            "seed": os.urandom(64),
            "openssl.cnf": CONFIG.encode(),
            "included.cnf": b".include openssl.cnf\n[more]\ndays = 7\n",
            "stale.pem": b"of an earlier run\n",
        }.items():
            (self.files / name).write_bytes(data)

    def enroll(self, name: str, *names: x509.GeneralName) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A certificate of our CA, and its key."""
        key = peers.new_key()
        with Session(Context(credential=SharedSecret("r1", b"s1")), self.responder.handle) as session:
            issued = session.enroll(peers.name(name), peers.key_der(key), subject_alternative_names=names)
        return issued.certificate, key

    # -- a run --------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return self._server.server_port

    def words(self, command: str) -> list[str]:
        """A command line, its abbreviations written out."""
        server = f"-server 127.0.0.1:{self.port}"
        short = {
            "to": server,
            "mac": f"{server} -ref r1 -secret pass:s1",
            "sig": f"{server} -cert dev.pem -key dev.key -trusted ca.pem",
            "new": "-newkey new.key -subject /O=Test/CN=new -certout cert.pem",
            "port": str(self.port),
            "tls_port": str(self._secure.server_port),
        }
        for name, text in short.items():
            command = command.replace("{" + name + "}", text)
        return shlex.split(command)

    def run(
        self,
        command: str,
        *,
        ours: bool,
        fresh: bool = False,
        process: bool = False,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        before: Mapping[str, bytes] | None = None,
    ) -> Ran:
        """Run a command line by one of the two programs, in a directory of its own with the files of the client.

        Args:
            ours: opensslcmp, else openssl.
            fresh: with a certificate of its own, since the command ends it.
            process: ours in a process of its own too.
            before: files that are there before, by name.
        """
        self._count += 1
        directory = self._runs / str(self._count)
        shutil.copytree(self.files, directory)
        if fresh:
            certificate, key = self.enroll("device")
            (directory / "dev.pem").write_bytes(certificate.public_bytes(PEM))
            (directory / "dev.key").write_bytes(key.private_bytes(PEM, PKCS8, PLAIN))
        for name, data in (before or {}).items():
            (directory / name).write_bytes(data)
        known = {path.name: path.read_bytes() for path in directory.iterdir()}
        self.received.clear()
        words = self.words(command)
        if ours and not process:
            status, out, err = _here(words, directory, environment or {}, stdin)
        else:
            program = [sys.executable, "-m", "opensslcmp"] if ours else ["openssl"]
            variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | dict(environment or {})
            done = subprocess.run(
                [*program, "cmp", *words],
                cwd=directory,
                env=variables,
                input=stdin,
                capture_output=True,
                check=False,
                timeout=60,
            )
            status, out, err = done.returncode, done.stdout.decode(), done.stderr.decode()
        files = {
            path.name: content(path.read_bytes())
            for path in directory.iterdir()
            if known.get(path.name) != path.read_bytes()
        }
        files |= {name: "gone" for name in known if not (directory / name).exists()}
        sent = [(scheme, path, masked(describe(request))) for scheme, path, request in self.received]
        return Ran(status, sent, files, out, err, directory)


def _here(words: list[str], directory: Path, environment: Mapping[str, str], stdin: bytes) -> tuple[int, str, str]:
    out, err, old = io.StringIO(), io.StringIO(), (Path.cwd(), dict(os.environ), sys.stdin)
    os.chdir(directory)
    os.environ.update(environment)
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
    finally:
        os.chdir(old[0])
        os.environ.clear()
        os.environ.update(old[1])
        sys.stdin = old[2]
    return status, out.getvalue(), err.getvalue()


def _secret(reference: bytes) -> FoundSecret | None:
    return FoundSecret(value=b"s1") if reference == b"r1" else None


def _loopback() -> Any:
    import ipaddress

    return ipaddress.ip_address("127.0.0.1")


# What is different in every run.
_CHANCE = {
    "size", "messageTime", "transactionID", "senderNonce", "recipNonce", "salt", "signature", "protection", "findings",
    "serialNumber", "certHash", "notBefore", "notAfter", "fingerprint", "sha256", "subjectKeyIdentifier",
}  # fmt: skip


def masked(value: Any, key: str = "") -> Any:
    """A description without what is different in every run."""
    if key in _CHANCE and not isinstance(value, dict | list):
        return "..." if value is not None else None
    if isinstance(value, dict):
        return {name: masked(each, name) for name, each in value.items() if name not in {"findings", "size"}}
    if isinstance(value, list):
        return [masked(each, key) for each in value]
    if isinstance(value, str):
        # A second may pass between two runs; the day is what -days is about.
        value = re.sub(r"(\d{4}-\d\d-\d\d)T[\d:]+Z", r"\1", value)
        return re.sub(r"\b[0-9a-fA-F:]{30,}\b", "...", value)
    return value


def content(data: bytes) -> Any:
    """What a file holds, as far as two runs can be compared."""
    if not data:
        return "empty"
    if b"-----BEGIN CERTIFICATE" in data:
        return ["PEM", *[each.subject.rfc4514_string() for each in x509.load_pem_x509_certificates(data)]]
    if data.startswith(b"-----BEGIN"):
        return data.splitlines()[0].decode()
    for kind, load in (("certificate", x509.load_der_x509_certificate), ("crl", x509.load_der_x509_crl)):
        with contextlib.suppress(ValueError):
            found: Any = load(data)
            return ["DER", kind, (found.subject if kind == "certificate" else found.issuer).rfc4514_string()]
    with contextlib.suppress(Exception):
        return masked(describe(data))
    return len(data)


@dataclass(frozen=True)
class Case:
    """One command line for both programs.

    Args:
        command: as ``World.words`` takes it.
        since: the first OpenSSL whose program can do it; older ones are not asked.
        status: what it must end with.
        differs: why the other program does something else, for which versions of it.
    """

    command: str
    since: tuple[int, int] = (3, 0)
    status: int = 0
    fresh: bool = False
    process: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    before: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def options(self) -> set[str]:
        """Those that it uses."""
        return {word.lstrip("-").partition("=")[0] for word in shlex.split(self.command) if word.startswith("-")}

    def ran(self, world: World, *, ours: bool) -> Ran:
        return world.run(
            self.command,
            ours=ours,
            fresh=self.fresh,
            process=self.process,
            environment=self.environment,
            stdin=self.stdin,
            before=self.before,
        )


@contextlib.contextmanager
def make_world(directory: Path) -> Iterator[World]:
    """A world that ends."""
    world = World(directory)
    try:
        yield world
    finally:
        world.close()
