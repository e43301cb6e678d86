"""Typical mistakes: what is told says what to do."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from opensslcmp.cli.hints import hint, words
from opensslcmp.enums import FailureInfo, PKIStatus
from opensslcmp.errors import ProtectionError, Rejected, TimedOut, TransportError, Unsupported
from opensslcmp.server import CA
from tests.cli.conftest import CLI
from tests.server.web_client import running


@dataclass(frozen=True)
class Served:
    """A CA in a directory, its server and a secret."""

    directory: Path
    place: str
    secret: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("hints") / "my-ca"
    ca = CA.create(directory, "CN=CA")
    secret = ca.add_secret("device-1").decode()
    ca.close()
    with running("-m", "opensslcmp", "serve", str(directory), "--port", "0") as (_, host, port):
        yield Served(directory, f"{host}:{port}", secret)


def enroll(cli: CLI, place: Path, served: Served, **changed: str) -> str:
    """stderr of an enrollment with one thing changed; it fails."""
    given = {
        "server": f"http://{served.place}",
        "ref": "device-1",
        "secret": "env:SECRET",
        "subject": "/CN=device-1",
        "newkey": "ec:P-256",
        "newkeyout": str(place / "device.key"),
        "certout": str(place / "device.pem"),
    } | changed
    arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
    result = cli("enroll", *arguments, env={"SECRET": served.secret, "WRONG": "wrong"})
    assert result.code != 0
    assert served.secret not in result.err
    assert not (place / "device.pem").exists()
    return result.err


@pytest.mark.parametrize(
    ("changed", "advice"),
    [
        ({"secret": "env:WRONG"}, "hint: are --ref and --secret"),
        ({"ref": "device-9"}, "hint: are --ref and --secret"),
        ({"server": "http://PLACE/nowhere"}, "hint: is the path in --server right?"),
        ({"server": "https://PLACE"}, "hint: does the server speak HTTPS"),
        ({"server": "http://127.0.0.1:1"}, "hint: does the server run there"),
        ({"server": "htp://PLACE"}, "write http://HOST:PORT"),
        ({"newkey": "nofile.key"}, "neither a file nor a kind of key: nofile.key; there are rsa, rsa-pss, ec"),
        ({"newkey": "ec:P-25"}, "no such curve: P-25; there are P-256"),
        ({"subject": "device-1"}, "not a name like CN=device,O=Example or /O=Example/CN=device: device-1"),
    ],
)
def test_a_mistake_in_an_option_is_told_with_what_to_do(
    cli: CLI, served: Served, tmp_path: Path, changed: dict[str, str], advice: str
) -> None:
    given = {name: value.replace("PLACE", served.place) for name, value in changed.items()}
    assert advice in enroll(cli, tmp_path, served, **given)


def test_the_hint_is_in_the_json_too(cli: CLI) -> None:
    result = cli(
        "info", "--server", "127.0.0.1:1", "--ref", "r", "--secret", "env:SECRET", "--json", env={"SECRET": "x"}
    )
    assert json.loads(result.out)["error"]["hint"].startswith("does the server run there")


def test_a_file_that_does_not_load_is_named_with_its_option(cli: CLI, pki: Path, tmp_path: Path) -> None:
    def told(**changed: object) -> str:
        given = {"server": "127.0.0.1:1", "cert": pki / "new.pem", "key": pki / "new.key", "trusted": pki / "ca.pem"}
        options = (given | changed).items()
        result = cli("info", *(part for name, value in options for part in (f"--{name}", value)), env={"WRONG": "no"})
        assert result.code == 7
        return result.err

    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert f"error: --key: {pki / 'ca.pem'}: there is no private key in it" in told(key=pki / "ca.pem")
    assert f"error: --trusted: {damaged}: " in told(trusted=damaged)
    assert f"error: --cert: {damaged}: " in told(cert=damaged)


def test_a_wrong_password_is_told_with_its_option(cli: CLI, pki: Path, tmp_path: Path) -> None:
    from opensslcmp.context.keys import PrivateKey

    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(PrivateKey.load(pki / "new.key").to_pem(b"right"))
    options = ["--server", "127.0.0.1:1", "--cert", pki / "new.pem", "--key", encrypted, "--trusted", pki / "ca.pem"]
    for more, why in ((["--keypass", "env:WRONG"], "the password is another one"), ([], "no password was given")):
        result = cli("info", *options, *more, env={"WRONG": "wrong"})
        assert result.code == 7
        assert f"--key: {encrypted}: " in result.err
        assert why in result.err
        assert "(--keypass)" in result.err


def test_a_pem_file_of_another_kind_is_named(cli: CLI, pki: Path) -> None:
    result = cli("inspect", pki / "ca.pem")
    assert result.code == 7
    assert "a certificate in PEM, and no PKIMessage" in result.err


def test_a_port_that_is_taken_is_told_without_an_errno(cli: CLI, served: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = cli("serve", served.directory, "--port", taken.getsockname()[1])
    assert result.code == 7
    assert "is taken by another program; end that, or take another port (--port)" in result.err
    assert "Errno" not in result.err


def test_a_missing_package_is_told_with_what_to_install(
    cli: CLI, served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    shutil.copytree(served.directory, tmp_path / "ca", ignore=lambda *_: ["ca.db", "ca.db-wal", "ca.db-shm"])
    (tmp_path / "ca" / "opensslcmp.toml").write_text('[store]\nurl = "postgresql://x@127.0.0.1:1/x"\n')
    for command in ("serve", "ca list"):
        result = cli(*command.split(), tmp_path / "ca")
        assert result.code == 8
        assert "pip install 'opensslcmp[postgres]', and the system's libpq5" in result.err
        assert "Traceback" not in result.err
    error = ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy")
    assert words(error) == "the Python package sqlalchemy is not installed"
    assert "pip install 'opensslcmp[server]'" in str(hint(error))


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (PermissionError(13, "Permission denied", "/x"), "runuser -u USER"),
        (TimedOut("no answer"), "--msg_timeout"),
        (TransportError("cannot resolve x"), "spelled right"),
        (TransportError("TLS: the server's certificate was refused: expired"), "--tls_trusted"),
        (TransportError("something else"), None),
        (ProtectionError("the signer's certificate is not trusted: certificate has expired"), "clock"),
        (ProtectionError("the signer's certificate is not trusted: self-signed certificate"), "ca.pem"),
        (Rejected(FailureInfo.BAD_MESSAGE_CHECK, "x"), "--ref and --secret"),
        (Rejected(FailureInfo.SIGNER_NOT_TRUSTED, "the signer is not trusted"), "has --cert expired"),
        (Rejected(FailureInfo.CERT_REVOKED, "x"), "enroll anew"),
        (Rejected(FailureInfo.BAD_TIME, "x"), "clock"),
        (Rejected(FailureInfo.BAD_POP, "x"), None),
        (Unsupported("x", "3.5"), "doctor"),
        (ModuleNotFoundError("x", name="_ssl"), None),
        (RuntimeError("x"), None),
    ],
)
def test_each_kind_of_error_has_its_hint(error: BaseException, advice: str | None) -> None:
    found = hint(error)
    assert found == advice if advice is None else advice in str(found)


def test_errors_of_the_system_are_told_without_their_numbers() -> None:
    assert words(PermissionError(13, "Permission denied", "/x")) == "/x: Permission denied"
    assert words(OSError(98, "in use")) == "in use"
    assert words(ValueError()) == "ValueError"
    assert PKIStatus.REJECTION.text in words(Rejected(FailureInfo.BAD_POP, "x"))
