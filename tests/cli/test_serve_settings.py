"""A server as opensslcmp.toml says: labels for OpenSSL's client and ours, TLS clients, SIGHUP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.credentials import SharedSecret
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import Rejected
from opensslcmp.server import CA
from opensslcmp.transport.http import TLS
from tests.server.web_client import environment

SECRET = "correct horse"
SETTINGS = """
[server]
port = 0
[profiles.default]
[profiles.short]
validity_days = 1
[profiles.medium]
validity_days = 30

[labels.factory]
profiles = ["short", "medium"]
references = ["device-*"]
[labels.letter]
rules = { profile = "strict" }
implicit_confirm = false
[labels.tls]
tls_subjects = ["CN=new,O=Test"]
"""


@dataclass
class Running:
    """A server in processes of its own, and what it says."""

    process: subprocess.Popen[str]
    url: str
    words: Path

    def at(self, label: str) -> str:
        return f"{self.url}/p/{label}"

    def reload(self, words: str, times: int = 1) -> None:
        """SIGHUP, and wait until the log has these words so many times more."""
        wanted = self.words.read_text().count(words) + times
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while self.words.read_text().count(words) < wanted:
            assert time.monotonic() < deadline, self.words.read_text()
            time.sleep(0.01)


@contextmanager
def serving(directory: Path, words: Path, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "opensslcmp", "serve", str(directory), *options]
    with (
        words.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment()) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), words.read_text()
            yield Running(process, line.removeprefix("listening on ").strip(), words)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


@pytest.fixture(scope="module")
def ca_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ca") / "ca"
    ca = CA.create(directory, "CN=Settings CA")
    for reference in ("device-1", "stranger"):
        ca.add_secret(reference, SECRET)
    ca.close()
    (directory / "opensslcmp.toml").write_text(SETTINGS)
    return directory


@pytest.fixture(scope="module")
def server(ca_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(ca_directory, tmp_path_factory.mktemp("log") / "stderr") as running:
        yield running


def days(certificate: x509.Certificate) -> int:
    return (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days


@pytest.fixture
def openssl(server: Running, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``openssl cmp -cmd ir`` at a path."""
    command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "new.key"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    def run(path: str, *options: str) -> subprocess.CompletedProcess[str]:
        host, _, root = server.url.removeprefix("http://").partition("/")
        where = ("-config", "", "-server", host, "-path", f"{root}{path}", "-secret", "env:SECRET")
        request = ("-cmd", "ir", "-newkey", "new.key", "-subject", "/CN=device", "-certout", "cert.pem")
        return subprocess.run(
            ["openssl", "cmp", *where, *request, *options],
            cwd=tmp_path,
            env=os.environ | {"SECRET": SECRET},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("path", "reference", "expected", "words"),
    [
        ("", "stranger", 365, ""),
        ("/p/factory", "device-1", 1, ""),
        ("/p/factory/initialization", "device-1", 1, ""),
        ("/p/factory", "stranger", None, "notAuthorized"),
        ("/p/letter", "device-1", None, ""),  # its sender is not the reference, as strict wants it
        ("/p/tls", "device-1", None, "notAuthorized"),
        ("/p/nonsense", "device-1", None, "badRequest"),
    ],
)
def test_a_label_serves_openssl_as_the_file_says(
    openssl: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    path: str,
    reference: str,
    expected: int | None,
    words: str,
) -> None:
    result = openssl(path, "-ref", reference)
    assert (result.returncode == 0) is (expected is not None), result.stderr
    assert words in result.stdout + result.stderr
    if expected is not None:
        assert days(x509.load_pem_x509_certificate((tmp_path / "cert.pem").read_bytes())) == expected


def test_a_label_serves_our_session_as_the_file_says(server: Running) -> None:
    def enroll(label: str, reference: str = "device-1", **options: Any) -> int:
        with closing(Context(server.at(label), credential=SharedSecret(reference, SECRET))) as context:
            return days(Session(context).enroll("CN=ours", generate="ec:P-256", **options).certificate)

    assert enroll("factory") == 1
    assert enroll("factory", profile="medium") == 30
    assert enroll("letter") == 365
    for label, reference, failure in (
        ("factory", "stranger", FailureInfo.NOT_AUTHORIZED),
        ("tls", "device-1", FailureInfo.NOT_AUTHORIZED),
        ("nonsense", "device-1", FailureInfo.BAD_REQUEST),
    ):
        with pytest.raises(Rejected) as caught:
            enroll(label, reference)
        assert caught.value.failure is failure


def test_a_tls_client_is_known_by_its_certificate(ca_directory: Path, pki: Path, tmp_path: Path) -> None:
    config = tmp_path / "tls.toml"
    files = f'tls_certificate = "{pki}/new.pem"\ntls_key = "{pki}/new.key"\ntls_client_ca = "{pki}/ca.pem"'
    config.write_text(SETTINGS.replace("port = 0", f'port = 0\n{files}\ntls_client = "optional"'))
    with serving(ca_directory, tmp_path / "stderr", "--config", str(config)) as running:
        host, _, root = running.url.removeprefix("https://").partition("/")
        for known in (True, False):  # as openssl cmp does it
            done = subprocess.run(
                [
                    *("openssl", "cmp", "-config", "", "-cmd", "ir", "-server", host, "-path", f"{root}/p/tls"),
                    *("-tls_used", "-tls_trusted", f"{pki}/ca.pem", "-tls_host", "new"),
                    *(("-tls_cert", f"{pki}/new.pem", "-tls_key", f"{pki}/new.key") if known else ()),
                    *(
                        "-ref",
                        "device-1",
                        "-secret",
                        "env:SECRET",
                        "-newkey",
                        f"{pki}/new.key",
                        "-subject",
                        "/CN=theirs",
                    ),
                    *("-certout", str(tmp_path / "theirs.pem")),
                ],
                env=os.environ | {"SECRET": SECRET},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert (done.returncode == 0) is known, done.stderr
            assert known or "notAuthorized" in done.stdout + done.stderr
        for own, failure in ((None, FailureInfo.NOT_AUTHORIZED), ("new", None)):
            tls = TLS(
                trusted=pki / "ca.pem",
                certificate=pki / f"{own}.pem" if own else None,
                key=pki / f"{own}.key" if own else None,
                check_host=False,
            )
            secret = SharedSecret("device-1", SECRET)
            with closing(Context(running.at("tls"), credential=secret, tls=tls)) as context:
                if failure is None:
                    assert Session(context).enroll("CN=ours", generate="ec:P-256").certificate
                    continue
                with pytest.raises(Rejected) as caught:
                    Session(context).enroll("CN=ours", generate="ec:P-256")
                assert caught.value.failure is failure


def test_sighup_has_every_worker_read_the_file_again(ca_directory: Path, tmp_path: Path) -> None:
    config = tmp_path / "live.toml"
    config.write_text("[server]\nport = 0\nworkers = 2\n")
    with serving(ca_directory, tmp_path / "stderr", "--config", str(config)) as running:

        def enroll(subject: str) -> x509.Certificate:
            with closing(Context(running.url, credential=SharedSecret("device-1", SECRET))) as context:
                return Session(context).enroll(subject, generate="ec:P-256").certificate

        assert days(enroll("CN=any")) == 365
        config.write_text(
            "[server]\nport = 0\nworkers = 2\n[profiles.only]\nsubjects = ['CN=dev-*']\nvalidity_days = 1\n"
        )
        running.reload("WARNING opensslcmp.server: reloaded", 2)
        for _ in range(4):  # connections go to either worker
            assert days(enroll("CN=dev-1")) == 1
            with pytest.raises(Rejected):
                enroll("CN=any")
        config.write_text("[server]\nport = 1\nworkers = 2\n[profiles.only]\nvalidty_days = 1\n")
        running.reload(f"{config}:5: [profiles.only] validty_days is not known; did you mean validity_days", 2)
        for _ in range(4):
            assert days(enroll("CN=dev-1")) == 1
        config.write_text("[server]\nport = 1\nworkers = 2\n")
        running.reload("[server] port changed, which takes effect after a restart", 2)
        assert days(enroll("CN=any")) == 365
