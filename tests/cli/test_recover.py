"""``enroll --archive`` and ``recover``: the files that they leave, and that nothing is left when they fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from opensslcmp.context.keys import PrivateKey
from opensslcmp.server import CA
from tests.cli.conftest import CLI
from tests.server.web_client import running


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    ca = CA.create(tmp_path / "ca", "CN=Archiving CA", key_recovery=True)
    ca.add_secret("device", "secret")
    ca.close()
    with running("-m", "opensslcmp", "serve", str(tmp_path / "ca"), "--port", "0") as (address, _, _):
        yield address


def test_a_lost_key_is_written_again(cli: CLI, url: str, tmp_path: Path) -> None:
    place = tmp_path / "recovered"
    common = ("--server", url, "--ref", "device", "--secret", "env:S")
    env = {"S": "secret", "P": "opens"}
    failed = cli("recover", *common, "--out", place, env=env)
    assert failed.code == 3
    assert "badCertId" in failed.err
    assert not list(place.iterdir())
    made = ("--newkey", "ec:P-256", "--newkeyout", tmp_path / "k", "--certout", tmp_path / "c")
    done = cli("enroll", *common, "--subject", "/CN=x", *made, "--archive", tmp_path / "ca" / "escrow.pem", env=env)
    assert done.code == 0, done.err
    done = cli("recover", *common, "--out", place, "--newkeypass", "env:P", "--json", env=env)
    assert done.code == 0, done.err
    (told,) = json.loads(done.out)["keys"]
    assert told["subject"] == "CN=x"
    key = PrivateKey.load(Path(told["key"]), "opens")
    assert key.public_key_der == PrivateKey.load(tmp_path / "k").public_key_der
    assert Path(told["key"]).stat().st_mode & 0o777 == 0o600
    assert Path(told["certificate"]).read_bytes() == (tmp_path / "c").read_bytes()


def test_a_csr_has_no_key_to_archive(cli: CLI, tmp_path: Path) -> None:
    (tmp_path / "csr").write_bytes(b"")
    done = cli("enroll", "--server", "127.0.0.1:1", "--csr", tmp_path / "csr", "--archive", tmp_path / "csr")
    assert done.code == 2
    assert "--archive" in done.err
