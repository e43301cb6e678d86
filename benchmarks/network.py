"""A server of ours in a process of its own, and those who enroll from it over loopback HTTP."""

import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from benchmarks.anchor import Case
from benchmarks.ends import new_key
from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import MacParameters, SharedSecret
from opensslcmp.server.ca import CA
from opensslcmp.transport import TLS, HTTPTransport

__all__ = ["ROOT", "Crowd", "Server", "Service", "tool_rate"]

ROOT = Path(__file__).resolve().parent.parent


class Service:
    """``opensslcmp serve`` on a free port, with a CA of its own in a temporary directory.

    Args:
        store: ``sqlite``, ``memory``, or the URL of an empty PostgreSQL database.
        workers: processes.
        https: with a certificate of its own, which is in ``tls_certificate``.
    """

    reference = "device"

    def __init__(self, store: str = "sqlite", *, workers: int = 1, https: bool = False) -> None:
        self.store = store
        self._workers = workers
        self._https = https
        self.secret = secrets.token_hex(12)
        self._scratch = tempfile.TemporaryDirectory()
        self.directory = Path(self._scratch.name) / "ca"
        self.url = ""

    def __enter__(self) -> Self:
        CA.create(self.directory).close()
        command = ["opensslcmp", "serve", str(self.directory), "--port", "0"]
        if self._workers > 1:
            command += ["--workers", str(self._workers)]
        if self._https:
            command += ["--tls_cert", str(self.tls_certificate), "--tls_key", str(self._tls_key())]
        if self.store == "memory":
            command = ["benchmarks.serving", str(self.directory), self.reference]
        elif self.store != "sqlite":
            settings = self.directory / "opensslcmp.toml"
            settings.write_text(f"{settings.read_text() if settings.exists() else ''}[store]\nurl = '{self.store}'\n")
        if self.store != "memory":
            ca = CA.open(self.directory)
            ca.remove_secret(self.reference)
            ca.add_secret(self.reference, self.secret)
            ca.close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "BENCHMARK_SECRET": self.secret},
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().removeprefix("listening on ").strip()
        if self.url:
            return self
        self.__exit__(None, None, None)
        raise RuntimeError("the server ended before it listened")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._scratch.cleanup()

    @property
    def tls_certificate(self) -> Path:
        """PEM."""
        return self.directory.parent / "tls.pem"

    def _tls_key(self) -> Path:
        """Make key and certificate."""
        key = new_key("ec")
        place = self.directory.parent / "tls.key"
        place.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.tls_certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return place

    @property
    def target(self) -> str:
        """HOST:PORT/PATH."""
        return self.url.partition("://")[2]

    def cpu_seconds(self) -> float:
        """CPU that the server's threads have used so far, as the scheduler counts it (proc(5), schedstat)."""
        return _cpu_nanoseconds(self._process.pid) / 1e9


def _cpu_nanoseconds(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task")
    own = sum(int(path.read_text().split()[0]) for path in tasks.glob("*/schedstat"))
    children = [int(child) for path in tasks.glob("*/children") for child in path.read_text().split()]
    return own + sum(_cpu_nanoseconds(child) for child in children)


class Server:
    """Enrollments of a Session from a service."""

    def __init__(self, service: Service, case: Case, *, keep_alive: bool = True) -> None:
        self.context = Context(
            service.url,
            credential=SharedSecret(
                service.reference, service.secret, parameters=MacParameters(mac="hmac-sha1", iterations=500)
            ),
            implicit_confirm=case.confirm == "implicit",
            tls=TLS(trusted=service.tls_certificate) if service.url.startswith("https:") else None,
        )
        self._session = Session(
            self.context, transport=HTTPTransport(service.url, keep_alive=keep_alive, tls=self.context.tls)
        )
        self.key = PrivateKey.load(new_key(case.key))
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])

    def run(self, count: int) -> float:
        """Wall time of one enrollment in microseconds, over ``count``."""
        start = time.perf_counter()
        for _ in range(count):
            self._session.enroll(self._name, self.key)
        return (time.perf_counter() - start) / count * 1e6


class Crowd:
    """Enrollments from a service over several connections at once."""

    def __init__(self, service: Service, case: Case, connections: int) -> None:
        self._service = service
        self._servers = [Server(service, case) for _ in range(connections)]

    def run(self, count: int) -> tuple[float, float]:
        """CPU of the service's processes and wall time of one enrollment, in microseconds, over about ``count``."""
        each = max(1, count // len(self._servers))
        before, start = self._service.cpu_seconds(), time.perf_counter()
        threads = [threading.Thread(target=server.run, args=(each,)) for server in self._servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        number = each * len(self._servers)
        wall = time.perf_counter() - start
        return (self._service.cpu_seconds() - before) / number * 1e6, wall / number * 1e6


def tool_rate(service: Service, count: int) -> float:
    """Wall time of one enrollment by ``openssl cmp`` in microseconds: a process for each, as scripts do it."""
    with tempfile.TemporaryDirectory() as scratch:
        key = Path(scratch) / "key.pem"
        key.write_bytes(
            new_key("ec").private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        command = ["openssl", "cmp", "-cmd", "ir", "-server", service.url, "-ref", service.reference]
        command += ["-secret", "env:BENCHMARK_SECRET", "-subject", "/CN=device", "-newkey", str(key)]
        command += ["-certout", str(Path(scratch) / "cert.pem"), "-verbosity", "3"]
        start = time.perf_counter()
        for _ in range(count):
            subprocess.run(
                command,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "BENCHMARK_SECRET": service.secret, "no_proxy": "127.0.0.1"},
            )
        return (time.perf_counter() - start) / count * 1e6
