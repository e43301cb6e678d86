"""``enroll --centralkeygen``: the files that it leaves, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.context.certificates import facts
from opensslcmp.context.keys import PrivateKey
from opensslcmp.server import CA
from tests.cli.conftest import CLI
from tests.server.web_client import running


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    ca = CA.create(tmp_path / "ca", "CN=Key CA", key_generation=True)
    ca.add_secret("device", "secret")
    ca.close()
    with running("-m", "opensslcmp", "serve", str(tmp_path / "ca"), "--port", "0") as (address, _, _):
        yield address


def test_the_key_and_the_certificate_are_written(cli: CLI, url: str, tmp_path: Path) -> None:
    done = cli(
        *("enroll", "--server", url, "--ref", "device", "--secret", "env:S", "--subject", "/CN=device"),
        *("--centralkeygen", "--newkey", "ec:P-384", "--newkeyout", tmp_path / "k", "--certout", tmp_path / "c"),
        *("--newkeypass", "env:P"),
        env={"S": "secret", "P": "opens"},
    )
    assert done.code == 0, done.err
    key = PrivateKey.load(tmp_path / "k", "opens")
    certificate = x509.load_pem_x509_certificate((tmp_path / "c").read_bytes())
    assert facts(certificate.public_bytes(Encoding.DER)).spki == key.public_key_der
    assert key.bits == 384
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600


def test_a_place_for_the_key_is_asked_for(cli: CLI, tmp_path: Path) -> None:
    done = cli("enroll", "--server", "127.0.0.1:1", "--subject", "/CN=x", "--centralkeygen")
    assert done.code == 2
    assert "--newkeyout is missing" in done.err
