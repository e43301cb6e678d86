"""An operator's day (docs/operations.md): a server behind nginx, looked after while it runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from opensslcmp import TLS, Context, Issued, Pending, Session, SharedSecret
from tests.server.web_client import environment

EXAMPLES = Path(__file__).parents[2] / "examples"
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
SECRET = {"SECRET": "correct horse battery", "PASSPHRASE": "staple"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def opensslcmp(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "opensslcmp", *map(str, arguments)],
        env=environment() | SECRET,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Site:
    """A CA's server, and nginx in front of it."""

    ca: Path
    here: Path
    inside: int
    tls: int
    plain: int
    server: subprocess.Popen[str]

    def get(self, port: int, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            content: bytes = answer.read()
            return content

    def openssl_cmp(self, name: str, *options: str) -> x509.Certificate:
        """Enroll through nginx with ``openssl cmp -tls_used``."""
        # fmt: off
        command = [
            "openssl", "cmp", "-config", "", "-cmd", "ir", "-server", f"localhost:{self.tls}", "-path", "/.well-known/cmp",
            "-tls_used", "-tls_trusted", "tls.pem", "-ref", "device", "-secret", "env:SECRET", "-newkey", "device.key",
            "-subject", f"/CN={name}", "-certout", f"{name}.pem", *options,
        ]
        # fmt: on
        done = subprocess.run(
            command, cwd=self.here, env=os.environ | SECRET, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return x509.load_pem_x509_certificate((self.here / f"{name}.pem").read_bytes())


def make_tls(here: Path) -> None:
    """A certificate for localhost that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name.from_rfc4514_string("CN=localhost")
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (here / "tls.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (here / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if NGINX is None:
        if os.environ.get("OPENSSLCMP_NEED_NGINX"):
            pytest.fail("nginx is not here (Debian: apt-get install nginx-light)")
        pytest.skip("nginx is not here (Debian: apt-get install nginx-light)")
    make_tls(tmp_path)
    inside, tls, plain = free_port(), free_port(), free_port()
    ca = tmp_path / "ca"
    opensslcmp("ca", "init", ca, "--crl-url", f"http://127.0.0.1:{plain}/crl")
    with (ca / "opensslcmp.toml").open("a") as file:
        file.write('[server]\nworkers = 2\ntrusted_proxies = ["127.0.0.1"]\n[metrics]\nenabled = true\n')
    opensslcmp("ca", "secret", "add", ca, "device", "--secret", "env:SECRET")
    subprocess.run(
        [
            "openssl",
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            tmp_path / "device.key",
        ],
        check=True,
        capture_output=True,
    )
    text = (EXAMPLES / "nginx-opensslcmp.conf").read_text()
    for old, new in (
        ("listen 443 ssl", f"listen 127.0.0.1:{tls} ssl"),
        ("listen 80", f"listen 127.0.0.1:{plain}"),
        ("server 127.0.0.1:8080", f"server 127.0.0.1:{inside}"),
        ("/etc/nginx/tls/ca.example", str(tmp_path / "tls")),
    ):
        assert old in text
        text = text.replace(old, new)
    scratch = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(
        f"{user}worker_processes 1;\npid {tmp_path}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{scratch}{text}}}\n"
    )
    command = [sys.executable, "-m", "opensslcmp", "serve", str(ca), "--port", str(inside)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as server:
        proxy = None
        try:
            assert server.stdout is not None
            assert re.match("listening on", server.stdout.readline())
            config = ["-p", str(tmp_path), "-c", "nginx.conf", "-e", "stderr"]
            proxy = subprocess.Popen([NGINX, *config, "-g", "daemon off;"], stderr=subprocess.PIPE, text=True)
            found = Site(ca, tmp_path, inside, tls, plain, server)
            wait_for(lambda: bool(found.get(plain, "/crl")))
            yield found
        finally:
            if proxy is not None:
                proxy.send_signal(signal.SIGTERM)
                proxy.communicate(timeout=20)
            server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0


def wait_for(done: Callable[[], bool], tries: int = 400) -> None:
    """Until something that has no way to tell is so."""
    pause = threading.Event()
    for _ in range(tries):
        try:
            if done():
                return
        except (OSError, AssertionError):
            pass
        pause.wait(0.05)
    raise AssertionError("it did not come")


def counted(site: Site) -> dict[str, float]:
    lines = site.get(site.inside, "/metrics").decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_an_operators_day(site: Site) -> None:
    first = site.openssl_cmp("device-1")
    with Session(
        Context(
            f"https://localhost:{site.tls}/.well-known/cmp",
            credential=SharedSecret("device", SECRET["SECRET"]),
            tls=TLS(trusted=[site.here / "tls.pem"]),
        )
    ) as session:
        second = session.enroll("CN=device-2", generate="ec:P-256").certificate
    # Looking on: what nginx hides, what is counted over both workers, what the audit log has.
    for path in ("/metrics", "/healthz", "/readyz"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            site.get(site.plain, path)
    numbers = counted(site)
    assert numbers['opensslcmp_certificates_total{change="issued"}'] == 2
    assert numbers["opensslcmp_workers"] == 2
    audit = site.ca / "audit.log"
    wait_for(lambda: audit.read_text().count('"confirmed"') == 2)
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    issued = [line for line in lines if line.get("issued")]
    assert [line["issued"] for line in issued] == [[f"{each.serial_number:x}"] for each in (first, second)]
    assert {line["address"] for line in issued} == {"127.0.0.1"}
    # Search and revoke.
    opensslcmp("ca", "search", site.ca, "--subject", "device-1", "--revoke", "keyCompromise", "--yes")
    crl = x509.load_der_x509_crl(site.get(site.plain, "/crl"))
    assert [each.serial_number for each in crl] == [first.serial_number]
    # Another secret, both good for an hour.
    out = site.here / "new-secret"
    opensslcmp("ca", "secret", "rotate", site.ca, "device", "--overlap", "1h", "--out", out)
    site.openssl_cmp("device-3")
    site.openssl_cmp("device-4", "-secret", f"file:{out}")
    # Back up while it runs, and restore beside it.
    opensslcmp("ca", "backup", site.ca, site.here / "backup", "--passphrase", "env:PASSPHRASE")
    opensslcmp("ca", "restore", site.here / "backup", site.here / "again", "--passphrase", "env:PASSPHRASE")
    assert opensslcmp("ca", "list", site.here / "again") == opensslcmp("ca", "list", site.ca)
    # A new key, without a restart; clients of the old root go on.
    opensslcmp("ca", "rollover", site.ca)
    site.server.send_signal(signal.SIGHUP)
    wait_for(lambda: bool(site.get(site.plain, "/crl-1")))
    root = x509.load_pem_x509_certificate((site.ca / "generation-1" / "ca.pem").read_bytes())

    def under_the_new_key() -> bool:  # each worker reads its files again by itself
        try:
            site.openssl_cmp("device-5").verify_directly_issued_by(root)
        except (ValueError, InvalidSignature):
            return False
        return True

    wait_for(under_the_new_key, tries=40)
    rotated = audit.with_name("audit.log.1")
    audit.rename(rotated)
    site.openssl_cmp("device-6")
    wait_for(lambda: audit.exists() and '"issued"' in audit.read_text())


def test_who_is_approved_before_an_upgrade_gets_the_certificate_after_it(tmp_path: Path) -> None:
    """Approve, back up, check, start anew; installing is for ``test_packaging``, and restarting for systemd."""
    ca, port = tmp_path / "ca", free_port()
    program = [sys.executable, "-m", "opensslcmp", "serve", str(ca)]
    opensslcmp("ca", "init", ca, "--subject", "/O=Example/CN=Device-CA", "--crl-url", "http://ca.example/crl")
    with (ca / "opensslcmp.toml").open("a") as file:
        file.write(f'[server]\nport = {port}\n[authority]\napproval = "manual"\n[labels.factory]\n')
    opensslcmp("ca", "secret", "add", ca, "device", "--secret", "env:SECRET", "--single-use")
    credential = SharedSecret("device", SECRET["SECRET"])

    @contextmanager
    def serving() -> Iterator[str]:
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment()) as server:
            try:
                assert server.stdout is not None
                yield server.stdout.readline().removeprefix("listening on ").strip() + "/p/factory"
            finally:
                server.send_signal(signal.SIGTERM)
                assert server.wait(20) == 0

    with serving() as url, Session(Context(url, credential=credential)) as session:
        pending = session.enroll("CN=device-1", generate="ec:P-256", wait=False)
        assert isinstance(pending, Pending)
        kept = pending.save()
        (waiting,) = json.loads(opensslcmp("ca", "pending", ca, "--json"))
        assert (waiting["subject"], waiting["label"], waiting["requester"]) == ("CN=device-1", "factory", "device")
        opensslcmp("ca", "approve", ca, waiting["id"])
    opensslcmp("ca", "backup", ca, tmp_path / "before-upgrade", "--passphrase", "env:PASSPHRASE")
    opensslcmp("serve", ca, "--check")
    with serving() as url, Session(Context(url, credential=credential)) as session:
        issued = session.resume(Pending.load(kept))
    assert isinstance(issued, Issued)
    assert issued.certificate.subject.rfc4514_string() == "CN=device-1"
    assert f"{issued.certificate.serial_number:x}" in opensslcmp("ca", "search", ca, "--state", "valid").lower()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here (Debian: systemd)")
def test_the_unit_of_systemd_is_in_order(tmp_path: Path) -> None:
    unit = tmp_path / "opensslcmp.service"
    unit.write_text((EXAMPLES / unit.name).read_text().replace("/opt/opensslcmp/bin/opensslcmp", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
