"""The server behind nginx and haproxy, by the files of examples/: TLS, and the client's certificate as RFC 9440 has it."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from opensslcmp import TLS, Context, FailureInfo, Issued, Rejected, Session, SharedSecret
from opensslcmp.server import CA
from opensslcmp.transport import HTTPTransport
from tests.interop.test_operations import EXAMPLES, NGINX, free_port, make_tls, wait_for
from tests.server.web_client import environment, running

HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
SECRET = SharedSecret("device", b"secret")


def client_certificate(here: Path, name: str, key: Any) -> TLS:
    """A certificate that vouches for itself, which the proxies trust."""
    now = datetime.now(UTC)
    subject = x509.Name.from_rfc4514_string(f"CN={name}")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    with (here / "clients.pem").open("ab") as file:
        file.write(pem)
    return TLS(
        trusted=[here / "tls.pem"],
        certificate=pem,
        key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def nginx(here: Path, inside: int, tls: int, plain: int) -> list[str]:
    if NGINX is None:
        pytest.skip("nginx is not here (Debian: apt-get install nginx-light)")
    text = replaced(
        (EXAMPLES / "nginx-client-certificate.conf").read_text() + (EXAMPLES / "nginx-opensslcmp.conf").read_text(),
        ("listen 443 ssl", f"listen 127.0.0.1:{tls} ssl"),
        ("listen 80", f"listen 127.0.0.1:{plain}"),
        ("server 127.0.0.1:8080", f"server 127.0.0.1:{inside}"),
        ("/etc/nginx/tls/ca.example", str(here / "tls")),
        ('proxy_set_header Client-Cert "";', "proxy_set_header Client-Cert $cmp_client_cert;"),
        (
            "ssl_protocols TLSv1.2 TLSv1.3;",
            f"ssl_protocols TLSv1.2 TLSv1.3;\nssl_client_certificate {here}/clients.pem;\nssl_verify_client optional;",
        ),
    )
    scratch = "".join(
        f"{kind}_temp_path {here}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    (here / "nginx.conf").write_text(
        f"{user}worker_processes 1;\npid {here}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{scratch}{text}}}\n"
    )
    return [NGINX, "-p", str(here), "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"]


def haproxy(here: Path, inside: int, tls: int, plain: int) -> list[str]:
    if HAPROXY is None:
        pytest.skip("haproxy is not here (Debian: apt-get install haproxy)")
    (here / "both.pem").write_bytes((here / "tls.pem").read_bytes() + (here / "tls.key").read_bytes())
    text = replaced(
        (EXAMPLES / "haproxy-opensslcmp.cfg").read_text(),
        ("bind :443", f"bind 127.0.0.1:{tls}"),
        ("bind :80", f"bind 127.0.0.1:{plain}"),
        ("server local 127.0.0.1:8080", f"server local 127.0.0.1:{inside}"),
        ("/etc/haproxy/tls/ca.example.pem", str(here / "both.pem")),
        ("/etc/haproxy/tls/clients.pem", str(here / "clients.pem")),
    )
    (here / "haproxy.cfg").write_text(text)
    return [HAPROXY, "-f", str(here / "haproxy.cfg"), "-db"]


@dataclass
class Behind:
    """A server behind a proxy, which lets in whose TLS certificate is for CN=gateway."""

    tls: int
    plain: int
    clients: dict[str, TLS]

    @property
    def url(self) -> str:
        return f"https://localhost:{self.tls}/.well-known/cmp"

    def enroll(self, client: str | None, **headers: str) -> Issued:
        tls = self.clients[client or "nobody"]
        way = HTTPTransport(self.url, tls=tls, proxy="", headers=list(headers.items()))
        try:
            return Session(Context(credential=SECRET), way).enroll("CN=device", generate="ec:P-256")
        finally:
            way.close()


@contextmanager
def behind(here: Path, config: Callable[[Path, int, int, int], list[str]]) -> Iterator[Behind]:
    make_tls(here)
    clients = {
        "gateway": client_certificate(here, "gateway", ec.generate_private_key(ec.SECP256R1())),
        "gateway-rsa": client_certificate(here, "gateway", rsa.generate_private_key(65537, 4096)),
        "other": client_certificate(here, "other", ec.generate_private_key(ec.SECP256R1())),
        "nobody": TLS(trusted=[here / "tls.pem"]),
    }
    tls, plain = free_port(), free_port()
    ca = CA.create(here / "ca", "CN=Test CA")
    ca.add_secret("device", b"secret")
    ca.close()
    (here / "ca" / "opensslcmp.toml").write_text(
        '[server]\ntrusted_proxies = ["127.0.0.1"]\n[authorisation]\ntls_subjects = ["CN=gateway"]\n'
    )
    with running("-m", "opensslcmp", "serve", str(here / "ca"), "--port", "0") as (_, _, inside):
        command = config(here, inside, tls, plain)
        proxy = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:

            def there() -> bool:
                with urllib.request.urlopen(f"http://127.0.0.1:{plain}/crl", timeout=20) as answer:
                    return bool(answer.read())

            wait_for(there)
            yield Behind(tls, plain, clients)
        finally:
            proxy.send_signal(signal.SIGTERM)
            proxy.wait(20)


@pytest.mark.parametrize("config", [nginx, haproxy])
def test_a_proxy_tells_whose_certificate_it_has_seen(tmp_path: Path, config: Any) -> None:
    with behind(tmp_path, config) as site:
        for client in ("gateway", "gateway-rsa"):
            assert site.enroll(client).certificate.subject.rfc4514_string() == "CN=device"
        told = site.clients["gateway"].certificate
        assert isinstance(told, bytes)
        der = x509.load_pem_x509_certificate(told).public_bytes(Encoding.DER)
        spoofed = {"Client-Cert": f":{base64.b64encode(der).decode()}:", "X-Forwarded-For": "127.0.0.1"}
        for stranger, headers in (("other", {}), (None, {}), (None, spoofed), ("other", spoofed)):
            with pytest.raises(Rejected) as caught:
                site.enroll(stranger, **headers)
            assert caught.value.failure is FailureInfo.NOT_AUTHORIZED
        for path in ("/metrics", "/healthz", "/"):
            with pytest.raises(urllib.error.HTTPError) as hidden:
                urllib.request.urlopen(f"http://127.0.0.1:{site.plain}{path}", timeout=20)
            assert hidden.value.code == 404
            hidden.value.close()
