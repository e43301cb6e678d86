"""``enroll``, ``update``, ``revoke`` and ``info`` against OpenSSL's mock server."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from opensslcmp.context.keys import PrivateKey
from tests.cli.conftest import CLI

Mock = Callable[..., str]
SECRET = {"SECRET": "s1"}
BY_SECRET = ("--path", "/", "--ref", "r1", "--secret", "env:SECRET")


@pytest.fixture
def by_certificate(pki: Path) -> list[str]:
    places = [("--cert", "new.pem"), ("--key", "new.key"), ("--trusted", "ca.pem")]
    return ["--path", "/", *(str(each) for option, name in places for each in (option, pki / name))]


def test_enroll_gives_the_certificate_on_stdout_and_talks_on_stderr(cli: CLI, mock: Mock, pki: Path) -> None:
    result = cli(
        "enroll", "--server", mock(), *BY_SECRET, "--newkey", pki / "new.key", "--subject", "/CN=new", env=SECRET
    )
    assert result.code == 0
    assert result.out == (pki / "new.pem").read_text()
    assert result.err.startswith("accepted; certificate of ")


@pytest.mark.parametrize("cmd", ["ir", "cr"])
@pytest.mark.parametrize("confirm", [(), ("--implicit_confirm",), ("--disable_confirm",)])
def test_enroll_writes_what_it_is_asked_for(
    cli: CLI, mock: Mock, pki: Path, tmp_path: Path, cmd: str, confirm: tuple[str, ...]
) -> None:
    files = [f"--{name}={tmp_path / name}" for name in ("certout", "chainout", "cacertsout", "extracertsout")]
    options = ["--newkey", pki / "new.key", "--subject", "CN=new,O=Test", "--cmd", cmd, *files, *confirm]
    server = mock(*(["-grant_implicitconf"] if confirm == ("--implicit_confirm",) else []))
    result = cli("enroll", "--server", server, *BY_SECRET, *options, env=SECRET)
    assert (result.code, result.out) == (0, "")
    assert (tmp_path / "certout").read_bytes() == (pki / "new.pem").read_bytes()
    assert (tmp_path / "chainout").exists()
    assert (tmp_path / "cacertsout").read_bytes() == ((pki / "ca.pem").read_bytes() if cmd == "ir" else b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cacertsout", "certout", "chainout", "extracertsout"]


def test_json_tells_everything_about_the_certificate(cli: CLI, mock: Mock, pki: Path) -> None:
    options = ("--newkey", pki / "new.key", "--subject", "/CN=new", "--json")
    told = json.loads(cli("enroll", "--server", mock(), *BY_SECRET, *options, env=SECRET).out)
    certificate = x509.load_pem_x509_certificate(told["certificate"].encode())
    assert told["subject"] == certificate.subject.rfc4514_string()
    assert told["status"] == "accepted"
    assert told["protection"]["kind"] == "mac"
    assert len(bytes.fromhex(told["transaction_id"])) == 16


def test_a_certificate_of_another_name_is_refused_unless_unchecked(cli: CLI, mock: Mock, pki: Path) -> None:
    options = (*BY_SECRET, "--newkey", pki / "new.key", "--subject", "/CN=x")
    refused = cli("enroll", "--server", mock(), *options, env=SECRET)
    assert (refused.code, refused.out) == (6, "")
    assert "subject is not the one asked for" in refused.err
    taken = cli("enroll", "--server", mock(), *options, "--unchecked", env=SECRET)
    assert (taken.code, taken.out) == (0, (pki / "new.pem").read_text())


def test_a_csr_is_sent_as_p10cr(cli: CLI, mock: Mock, pki: Path) -> None:
    result = cli("enroll", "--server", mock(), *BY_SECRET, "--csr", pki / "new.csr", env=SECRET)
    assert (result.code, result.out) == (0, (pki / "new.pem").read_text())


def test_update_and_revoke_work_with_a_certificate(cli: CLI, mock: Mock, pki: Path, by_certificate: list[str]) -> None:
    server = mock()
    result = cli("update", "--server", server, *by_certificate, "--newkey", pki / "new.key")
    assert (result.code, result.out) == (0, (pki / "new.pem").read_text())
    result = cli("revoke", "--server", server, *by_certificate, "--revreason", "keyCompromise", "--json")
    assert result.code == 0
    told = json.loads(result.out)
    assert told["status"] == "accepted"
    assert told["protection"] == {
        "kind": "signature",
        "algorithm": told["protection"]["algorithm"],
        "reference": None,
        "signer": "CN=Mock CA",
    }


def test_revoke_takes_a_file(cli: CLI, mock: Mock, pki: Path) -> None:
    result = cli("revoke", "--server", mock(), *BY_SECRET, "--oldcert", pki / "new.pem", "--revreason", "1", env=SECRET)
    assert result.code == 0
    assert result.err.startswith("revoked (accepted")


def test_info_asks_for_anything(cli: CLI, mock: Mock) -> None:
    server = mock()
    result = cli("info", "--server", server, *BY_SECRET, "--infotype", "signKeyPairTypes", env=SECRET)
    assert result.code == 0
    assert cli("info", "--server", server, *BY_SECRET, "--infotype", "1.2.3", "--json", env=SECRET).code == 0


def test_a_rejection_is_told_with_status_failure_and_text(cli: CLI, mock: Mock, pki: Path) -> None:
    server = mock("-pkistatus", "2", "-failure", "19", "-statusstring", "no such\x1b[31m device")
    options = ("--newkey", pki / "new.key", "--subject", "/CN=x")
    result = cli("enroll", "--server", server, *BY_SECRET, *options, "--json", env=SECRET)
    assert result.code == 3
    assert json.loads(result.out)["error"] == {
        "exit_code": 3,
        "kind": "rejected",
        "text": "rejection, badCertTemplate: no such\x1b[31m device",
        "status": "rejection",
        "failures": ["badCertTemplate"],
        "status_text": ["no such\x1b[31m device"],
    }
    assert "\x1b" not in result.err


def test_a_rejected_request_leaves_no_file_and_the_old_ones(cli: CLI, mock: Mock, tmp_path: Path) -> None:
    (tmp_path / "device.key").write_text("old")
    options = ("--newkey", "ec:P-256", "--newkeyout", tmp_path / "device.key", "--certout", tmp_path / "device.pem")
    server = mock("-pkistatus", "2")
    assert cli("enroll", "--server", server, *BY_SECRET, "--subject", "/CN=x", *options, env=SECRET).code == 3
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("device.key", "old")]


def test_a_certificate_for_another_key_is_refused_and_leaves_no_file(cli: CLI, mock: Mock, tmp_path: Path) -> None:
    options = ("--newkey", "ec:P-256", "--newkeyout", tmp_path / "device.key", "--certout", tmp_path / "device.pem")
    result = cli("enroll", "--server", mock(), *BY_SECRET, "--subject", "/CN=x", *options, env=SECRET)
    assert result.code in {3, 5, 6}
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_secret_is_not_trusted(cli: CLI, mock: Mock) -> None:
    result = cli("info", "--server", mock(), *BY_SECRET, env={"SECRET": "wrong"})
    assert result.code == 5
    assert "wrong" not in result.err.replace("wrong pbm", "")


def test_an_answer_by_a_stranger_is_not_trusted(cli: CLI, mock: Mock, pki: Path) -> None:
    strange = ["--cert", pki / "new.pem", "--key", pki / "new.key", "--trusted", pki / "new.pem", "--path", "/"]
    assert cli("info", "--server", mock(), *strange).code == 5


def test_no_server_is_no_answer(cli: CLI) -> None:
    result = cli("info", "--server", "127.0.0.1:1", *BY_SECRET, env=SECRET)
    assert result.code == 4
    assert "127.0.0.1:1" in result.err


def test_dashes_and_underscores_mean_the_same(cli: CLI, mock: Mock, pki: Path) -> None:
    options = ("--newkey", pki / "new.key", "--subject", "/CN=new", "--implicit-confirm", "--msg-timeout", "9")
    assert cli("enroll", "--server", mock(), *BY_SECRET, *options, env=SECRET).code == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("info", "--server"),
        ("info --server ftp://x --ref r --secret env:SECRET", "not a server"),
        ("info --server http://x/y --path z --ref r --secret env:SECRET", "exclude"),
        ("info --server http://x --tls_used --ref r --secret env:SECRET", "contradicts"),
        ("info --server x", "who are we"),
        ("info --server x --secret env:SECRET", "--ref"),
        ("info --server x --cert y", "together"),
        ("info --server x --cert y --key z", "--trusted"),
        ("info --server x --ref r --secret env:SECRET --infotype nonsense", "nonsense"),
        ("enroll --server x --ref r --secret env:SECRET", "--newkey"),
        ("enroll --server x --ref r --secret env:SECRET --newkey ec:P-256 --subject /CN=x", "--newkeyout"),
        ("enroll --server x --ref r --secret env:SECRET --cmd kur", "--cmd"),
        ("enroll --server x --ref r --secret env:SECRET --cmd p10cr", "--csr"),
        ("enroll --server x --ref r --secret env:SECRET --newkey ec:nonsense --newkeyout /tmp/k --subject /CN=x", "nonsense"),
        ("enroll --server x --ref r --secret env:SECRET --newkey k --popo 7", "--popo"),
        ("update --server x --ref r --secret env:SECRET", "--newkey"),
        ("revoke --server x --ref r --secret env:SECRET --issuer /CN=x", "together"),
        ("revoke --server x --ref r --secret env:SECRET --issuer /CN=x --serial x", "--serial"),
        ("revoke --server x --ref r --secret env:SECRET --oldcert a --issuer /CN=x --serial 1", "excludes"),
        ("revoke --server x --ref r --secret env:SECRET --revreason nonsense", "keyCompromise"),
        ("revoke --nonsense", "nonsense"),
        ("nonsense", "nonsense"),
    ],
)  # fmt: skip
def test_wrong_options_are_a_usage_error_in_words(cli: CLI, command: str, words: str) -> None:
    result = cli(*command.split(), env=SECRET)
    assert result.code == 2, result
    assert words in result.err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("info --server x --ref r --secret env:NOT_THERE", "NOT_THERE"),
        ("info --server x --ref r --secret file:/not/there", "/not/there"),
        ("info --server x --ref r --secret file:/dev/null", "empty"),
        ("info --server x --cert /not/there --key /not/there --trusted /not/there", "/not/there"),
        ("enroll --server x --ref r --secret env:SECRET --newkey /not/there --subject /CN=x", "/not/there"),
        ("enroll --server x --ref r --secret env:SECRET --newkey /dev/null --subject /CN=x", "/dev/null"),
        ("enroll --server x --ref r --secret env:SECRET --csr /not/there", "/not/there"),
        (
            "enroll --server x --ref r --secret env:SECRET --newkey k --subject /CN=x --certout /not/there/x",
            "/not/there",
        ),
        ("enroll --server x --ref r --secret env:SECRET --newkey k --subject /CN=x --certout /", "directory"),
    ],
)
def test_what_cannot_be_read_or_written_is_found_before_anything_is_sent(cli: CLI, command: str, words: str) -> None:
    result = cli(*command.split(), env=SECRET)
    assert result.code == 7, result
    assert words in result.err


def test_a_generated_key_may_be_encrypted(tmp_path: Path) -> None:
    from opensslcmp.cli.files import Outputs

    with Outputs() as outputs:
        outputs.write(tmp_path / "k", PrivateKey.generate("ec:P-256").to_pem(b"pw"), secret=True)
    assert PrivateKey.load(tmp_path / "k", b"pw").key_type == "EC"
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
