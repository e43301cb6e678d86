"""``opensslcmp serve`` with other ways than HTTP, and the client's commands with their URLs."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from opensslcmp.server.ca import CA
from tests.cli.conftest import CLI
from tests.server.web_client import environment

SECRET = {"SECRET": "correct horse"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a CA in ``ca``."""
    ca = CA.create(tmp_path / "ca", "CN=Test CA,O=Test")
    ca.add_secret("device", SECRET["SECRET"])
    ca.close()
    return tmp_path


@contextmanager
def serving(place: Path, *options: str, urls: int = 1) -> Iterator[list[str]]:
    """The URLs of a server."""
    command = [sys.executable, "-m", "opensslcmp", "serve", str(place / "ca"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(urls)]
            assert all(each.startswith("listening on ") for each in lines), lines
            yield [each.removeprefix("listening on ").strip() for each in lines]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def enrolls(cli: CLI, place: Path, url: str, *options: str) -> None:
    """A certificate comes from a URL."""
    who = ("--ref", "device", "--secret", "env:SECRET", "--newkey", "ec:P-256", "--subject", "/CN=device")
    out = ("--newkeyout", place / "device.key", "--certout", place / "device.pem")
    made = cli("enroll", "--server", url, *who, *out, *options, env=SECRET)
    assert made.code == 0, made.err
    assert x509.load_pem_x509_certificate((place / "device.pem").read_bytes())


def test_two_workers_serve_http_and_tcp(cli: CLI, place: Path) -> None:
    with serving(place, "--http", "0", "--tcp", "0", "--workers", "2", urls=2) as (http, tcp):
        assert http.startswith("http://127.0.0.1:")
        assert tcp.startswith("cmp+tcp://127.0.0.1:")
        enrolls(cli, place, tcp)


def test_tcp_alone_is_served_by_settings(cli: CLI, place: Path) -> None:
    (place / "ca" / "opensslcmp.toml").write_text("[transfers]\nhttp = false\ntcp_port = 0\n")
    with serving(place) as (tcp,):
        assert tcp.startswith("cmp+tcp://127.0.0.1:")
        enrolls(cli, place, tcp)


@pytest.mark.parametrize(
    ("options", "words"), [(["--no_http"], "there is no other way"), (["--tcp", "70000"], "Invalid value")]
)
def test_ways_that_are_none_are_refused(cli: CLI, place: Path, options: list[str], words: str) -> None:
    refused = cli("serve", place / "ca", "--check", *options)
    assert refused.code != 0
    assert words in " ".join(refused.err.split())


def test_options_of_http_are_for_http(cli: CLI) -> None:
    refused = cli("info", "--server", "cmp+tcp://ca.example", "--path", "cmp", "--ref", "r", "--secret", "env:SECRET")
    assert refused.code != 0
    assert "are for HTTP" in refused.err


def test_a_mailbox_is_served(cli: CLI, place: Path) -> None:
    with serving(place, "--no_http", "--mailbox", str(place / "box"), "--workers", "2") as (box,):
        assert box == f"file:{place / 'box'}"
        enrolls(cli, place, box)


def test_requests_are_carried_to_the_ca_by_hand(cli: CLI, place: Path) -> None:
    box = place / "box"
    who = ("--server", f"file:{box}", "--ref", "device", "--secret", "env:SECRET", "--msg_timeout", "0.01")
    what = ("--newkey", "ec:P-256", "--subject", "/CN=device", "--newkeyout", place / "k", "--certout", place / "c")
    asked = cli("enroll", *who, *what, env=SECRET)
    assert asked.code != 0
    assert "no answer yet" in asked.err
    (request,) = (box / "requests").iterdir()
    answered = [cli("ca", "answer", place / "ca", request, "--out", place / name) for name in ("a1", "a2")]
    assert [each.code for each in answered] == [0, 0]
    assert (place / "a1").read_bytes() == (place / "a2").read_bytes()  # the same request, the same answer
    shown = cli("inspect", place / "a1")
    assert "ip" in shown.out
    assert len((place / "ca" / "audit.log").read_text().splitlines()) >= 2


def test_what_cannot_be_answered_is_told(cli: CLI, place: Path) -> None:
    missing = cli("ca", "answer", place / "ca", place / "missing.pki")
    assert "No such file" in missing.err
    (place / "huge").write_bytes(bytes((1 << 20) + 1))
    assert "a message may have 1048576 bytes" in cli("ca", "answer", place / "ca", place / "huge").err
    assert "no CA" in cli("ca", "answer", place / "nowhere", "-", stdin=b"0").err
    answered = cli("ca", "answer", place / "ca", "-", stdin=b"0")  # an error message, in DER
    assert answered.code == 0
    assert answered.out


def test_coap_is_served(cli: CLI, place: Path) -> None:
    with serving(place, "--no_http", "--coap", "0") as (coap,):
        assert coap.startswith("coap://127.0.0.1:")
        enrolls(cli, place, coap)
