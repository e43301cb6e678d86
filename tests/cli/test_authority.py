"""What an operator of a CA does, with real processes on one directory."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from tests.cli.conftest import CLI
from tests.server.web_client import environment, exchange, running

SECRET = {"SECRET": "correct horse"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def opensslcmp(*arguments: object, code: int = 0) -> str:
    """What a command of a process of its own says to stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "opensslcmp", *map(str, arguments)],
        env=environment() | SECRET,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def verify(directory: Path, certificate: Path) -> str:
    """What OpenSSL says of a certificate, with the CRL that it names."""
    command = ["openssl", "verify", "-crl_check", "-crl_download", "-CAfile", "ca/ca.pem", str(certificate)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_openssl_finds_the_crl_at_the_url_in_the_certificate(tmp_path: Path) -> None:
    port = free_port()
    ca = tmp_path / "ca"
    opensslcmp("ca", "init", ca, "--crl-url", f"http://127.0.0.1:{port}/pki/devices.crl")
    opensslcmp("ca", "secret", ca, "device", "--secret", "env:SECRET")
    with running("-m", "opensslcmp", "serve", str(ca), "--port", str(port), "--workers", "2") as (url, host, _):
        certificate = tmp_path / "device.pem"
        by_secret = ("--ref", "device", "--secret", "env:SECRET", "--newkey", "ec:P-256")
        key = tmp_path / "device.key"
        opensslcmp(
            "enroll",
            "--server",
            url,
            *by_secret,
            "--subject",
            "/CN=device",
            "--newkeyout",
            key,
            "--certout",
            certificate,
        )
        points = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions.get_extension_for_class(
            x509.CRLDistributionPoints
        )
        assert points.value[0].full_name == [x509.UniformResourceIdentifier(f"http://127.0.0.1:{port}/pki/devices.crl")]
        assert verify(tmp_path, certificate) == "device.pem: OK\n".replace("device.pem", str(certificate))
        credential = ("--cert", certificate, "--key", key, "--trusted", ca / "ca.pem")
        opensslcmp("revoke", "--server", url, *credential, "--revreason", "keyCompromise")
        assert "certificate revoked" in verify(tmp_path, certificate)
        with socket.create_connection((host, port), 10) as connection:
            get = b"GET /crl HTTP/1.1\r\nHost: localhost\r\n"
            status, headers, crl = exchange(connection, get + b"\r\n")
            assert status == 200
            assert len(x509.load_der_x509_crl(crl)) == 1
            status, _, body = exchange(connection, get + f"If-None-Match: {headers['etag']}\r\n\r\n".encode())
            assert (status, body) == (304, b"")


@pytest.mark.parametrize("url", ["nonsense", "http://ca.example"])
def test_a_crl_url_that_is_none_is_refused(cli: CLI, tmp_path: Path, url: str) -> None:
    result = cli("ca", "init", tmp_path / "ca", "--crl_url", url)
    assert result.code == 2
    assert "crl_url" in result.err
    assert not (tmp_path / "ca").exists()
