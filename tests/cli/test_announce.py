"""A CA that announces, and who listens: the whole way, by the commands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from opensslcmp import Context, Session, SharedSecret
from opensslcmp.server import CA
from tests.cli.conftest import CLI
from tests.server.web_client import environment


@contextmanager
def started(*command: str) -> Iterator[tuple[str, int]]:
    """URL and pid of a command that listens."""
    line = [sys.executable, "-m", "opensslcmp", *command]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            found = re.fullmatch(r"listening on (\S+)\n", process.stdout.readline())
            assert found
            yield found[1], process.pid
        finally:
            process.terminate()
            assert process.wait(20) == 0


def until(condition: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    ca = CA.create(tmp_path / "ca", "CN=Announcing CA")
    ca.add_secret("device", b"secret")
    ca.close()
    (tmp_path / "root.pem").write_bytes((tmp_path / "ca" / "ca.pem").read_bytes())
    return tmp_path


def enrolled(url: str) -> x509.Certificate:
    session = Session(Context(url, credential=SharedSecret("device", b"secret")))
    return session.enroll("CN=device", generate="ec:P-256").certificate


def test_a_server_announces_revocations_crls_and_a_new_key(place: Path, cli: CLI) -> None:
    ca, out = place / "ca", place / "announced"
    with started("listen", "--trusted", str(place / "root.pem"), "--out", str(out), "--port", "0") as (receiver, _):
        (ca / "opensslcmp.toml").write_text(f'[announce]\nreceivers = ["{receiver}"]\nretry_seconds = 1\n')
        with started("serve", str(ca), "--port", "0") as (url, pid):
            until((ca / "announcements" / "state.json").exists)
            certificate = enrolled(url)
            assert cli("ca", "revoke", str(ca), f"{certificate.serial_number:x}", "--reason", "keyCompromise").code == 0
            until((out / "revocations.jsonl").exists)
            assert cli("ca", "rollover", str(ca)).code == 0
            os.kill(pid, signal.SIGHUP)
            until(lambda: list(out.glob("root-update-*.pem")))
    told = json.loads((out / "revocations.jsonl").read_text().splitlines()[0])
    assert (told["serial"], told["reason"]) == (f"{certificate.serial_number:x}", "keyCompromise")
    assert told["issuer"] == "CN=Announcing CA"
    crls = [x509.load_der_x509_crl(each.read_bytes()) for each in out.glob("crl-*.der")]
    assert any(crl.get_revoked_certificate_by_serial_number(certificate.serial_number) for crl in crls)
    (update,) = out.glob("root-update-*.pem")
    new = x509.load_pem_x509_certificates(update.read_bytes())[0]
    assert new == x509.load_pem_x509_certificate((ca / "generation-1" / "ca.pem").read_bytes())


def test_what_was_missed_is_announced_by_a_command(place: Path, cli: CLI) -> None:
    ca, out = place / "ca", place / "announced"
    with started("serve", str(ca), "--port", "0") as (url, _):
        serial = f"{enrolled(url).serial_number:x}"
    with started("listen", "--trusted", str(place / "root.pem"), "--out", str(out), "--port", "0") as (receiver, _):
        assert cli("announce", str(ca), "rann", serial, "--to", receiver).code == 7
        assert cli("ca", "revoke", str(ca), serial).code == 0
        for words in (["crlann"], ["rann", serial], ["cann", serial]):
            result = cli("announce", str(ca), *words, "--to", receiver, "--json")
            assert result.code == 0, result.err
            assert json.loads(result.out) == [{"receiver": receiver, "acknowledged": True, "problem": None}]
        assert (out / f"certificate-{serial}.pem").exists()
        assert len(list(out.iterdir())) == 3
        assert cli("announce", str(ca), "ckuann", "--to", receiver).code == 7


def test_a_receiver_refuses_who_it_does_not_trust(place: Path, cli: CLI) -> None:
    CA.create(place / "other", "CN=Another CA").close()
    trusted, out = place / "root.pem", place / "announced"
    with started("listen", "--trusted", str(trusted), "--out", str(out), "--port", "0") as (receiver, _):
        result = cli("announce", str(place / "other"), "crlann", "--to", receiver)
    assert result.code == 9
    assert "403" in result.err
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["nonsense"], ["rann"], ["crlann", "5a"], ["crlann"], ["cann", "xyz", "--to", "http://localhost:1"]]
)
def test_what_makes_no_sense_is_usage(place: Path, cli: CLI, words: list[str]) -> None:
    assert cli("announce", str(place / "ca"), *words).code == 2


def test_where_there_is_nothing_it_is_said(tmp_path: Path, cli: CLI) -> None:
    assert cli("announce", str(tmp_path), "crlann", "--to", "http://localhost:1").code == 7
    assert cli("listen", "--trusted", str(tmp_path / "no.pem"), "--out", str(tmp_path)).code == 7
