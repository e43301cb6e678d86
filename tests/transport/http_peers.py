"""HTTP servers that do what a test tells them, byte by byte; and certificates for their TLS."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

MESSAGE = b"0\x03\x02\x01\x01"
ANSWER = b"0\x03\x02\x01\x02"


def reply(
    body: bytes = ANSWER,
    *,
    status: str = "200 OK",
    version: str = "1.1",
    kind: str = "application/pkixcmp",
    **fields: str,
) -> bytes:
    """One HTTP answer."""
    lines = [f"HTTP/{version} {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: "Server", connection: socket.socket, number: int) -> None:
        self.server, self.socket, self.number = server, connection, number

    def request(self) -> bytes | None:
        """The next request, or None at the end of the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := self.socket.recv(65536)):
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(x[15:]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length:")), 0)
        while len(body) < length:
            body += self.socket.recv(65536)
        whole = head + b"\r\n\r\n" + body
        self.server.requests.append((self.number, whole))
        return whole

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def segments_received(self) -> int:
        """TCP segments with data in them that have arrived (struct tcp_info, tcpi_data_segs_in)."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
        return int(struct.unpack_from("I", info, 152)[0])

    def reset(self) -> None:
        """Close with RST, not FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def answering(peer: Peer) -> None:
    """Answer every request."""
    while peer.request() is not None:
        peer.send(reply())


class Server:
    """Runs ``script`` in a thread for each connection on loopback.

    Attributes:
        requests: (number of the connection, request), in order.
        connections: how many there have been.
        failures: what scripts raised, apart from a client that went away.
    """

    def __init__(self, script: Callable[[Peer], None] = answering, *, tls: ssl.SSLContext | None = None) -> None:
        self.script, self.tls = script, tls
        self.requests: list[tuple[int, bytes]] = []
        self.failures: list[BaseException] = []
        self.connections = 0
        self.gone = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/.well-known/cmp"
        self._start(self._accept)

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._open.append(connection)
                self._start(self._serve, connection, self.connections)

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            self.script(Peer(self, connection, number))
        except OSError:
            pass
        except BaseException as error:
            self.failures.append(error)
        finally:
            connection.close()
            self.gone.set()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)
        assert not self.failures


class Authority:
    """A CA for TLS certificates."""

    def __init__(self, name: str = "TLS root") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), [], ca=True)

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, names: list[x509.GeneralName], *, ca: bool, days: int = 2
    ) -> x509.Certificate:
        start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=3 + days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, *names: str, days: int = 2) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """A certificate for DNS names and IP addresses, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        general: list[x509.GeneralName] = []
        for name in names:
            try:
                general.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                general.append(x509.DNSName(name))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        return self._sign(subject, key.public_key(), general, ca=False, days=days), key

    def server_context(
        self, directory: Path, *names: str, days: int = 2, clients: "Authority | None" = None
    ) -> ssl.SSLContext:
        """TLS of a server that is called ``names``; ``clients``: who issues the certificates it asks for."""
        certificate, key = self.issue(*names, days=days)
        file = directory / "server.pem"
        file.write_bytes(certificate.public_bytes(Encoding.PEM) + pem(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=clients.certificate.public_bytes(Encoding.PEM).decode())
        return context


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
