"""A CA made and served by the command line, its clients, and OpenSSL's own client."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest
from cryptography import x509

from opensslcmp.server.ca import CA
from tests.cli.conftest import CLI
from tests.server.web_client import running

SECRET = {"SECRET": "correct horse"}
OpenSSL = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def ca_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ca") / "ca"
    ca = CA.create(directory, "CN=Test CA,O=Test")
    ca.add_secret("device", SECRET["SECRET"])
    ca.close()
    return directory


@pytest.fixture(scope="module")
def url(ca_directory: Path) -> Iterator[str]:
    with running("-m", "opensslcmp", "serve", str(ca_directory), "--port", "0") as (url, _, _):
        yield url


@pytest.fixture
def openssl(url: str, tmp_path: Path) -> OpenSSL:
    """``openssl cmp`` against the server, in a directory with its own key and CSR."""

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        where = ("-config", "", "-server", url.removeprefix("http://").partition("/")[0])
        path = () if "-path" in arguments else ("-path", ".well-known/cmp")
        return subprocess.run(
            ["openssl", "cmp", *where, *path, *arguments],
            cwd=tmp_path,
            env=os.environ | SECRET,
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
        )

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "new.key")
    command = ["openssl", "req", "-new", *key, "-out", "new.csr", "-subj", "/CN=openssl"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "next.key"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return run


BY_SECRET = ("-ref", "device", "-secret", "env:SECRET")
BY_CERT = ("-cert", "cert.pem", "-key", "new.key", "-trusted", "ca.pem")
REQUEST = ("-newkey", "new.key", "-subject", "/CN=openssl", "-certout", "cert.pem")


@pytest.mark.parametrize("confirm", [(), ("-implicit_confirm",)], ids=["explicit", "implicit"])
def test_openssl_gets_renews_and_revokes_a_certificate(
    openssl: OpenSSL, ca_directory: Path, tmp_path: Path, confirm: tuple[str, ...]
) -> None:
    openssl("-cmd", "ir", *BY_SECRET, *REQUEST, "-cacertsout", "ca.pem", *confirm)
    assert (tmp_path / "ca.pem").read_bytes() == (ca_directory / "ca.pem").read_bytes()
    first = x509.load_pem_x509_certificate((tmp_path / "cert.pem").read_bytes())
    assert first.subject.rfc4514_string() == "CN=openssl"
    openssl("-cmd", "genm", *BY_CERT, "-infotype", "caCerts", "-cacertsout", "received.pem")
    openssl("-cmd", "kur", *BY_CERT, "-newkey", "next.key", "-certout", "next.pem", *confirm)
    second = x509.load_pem_x509_certificate((tmp_path / "next.pem").read_bytes())
    assert second.serial_number != first.serial_number
    by_second = ("-cert", "next.pem", "-key", "next.key", "-trusted", "ca.pem")
    openssl("-cmd", "rr", *by_second, "-oldcert", "next.pem", "-revreason", "1")
    refused = openssl("-cmd", "genm", *by_second, "-infotype", "caCerts", "-cacertsout", "received.pem", check=False)
    assert refused.returncode != 0


@pytest.mark.parametrize("cmd", ["cr", "p10cr"])
def test_openssl_asks_for_certificates_by_secret(openssl: OpenSSL, tmp_path: Path, cmd: str) -> None:
    request = REQUEST if cmd == "cr" else ("-csr", "new.csr", "-certout", "cert.pem")
    openssl("-cmd", cmd, *BY_SECRET, *request)
    assert (tmp_path / "cert.pem").exists()


def test_openssl_asks_for_information_by_secret(openssl: OpenSSL) -> None:
    openssl("-cmd", "genm", *BY_SECRET, "-infotype", "caCerts", "-cacertsout", "received.pem")


def test_openssl_with_a_wrong_secret_is_refused(openssl: OpenSSL) -> None:
    caps = ("-infotype", "caCerts", "-cacertsout", "received.pem")
    assert openssl("-cmd", "genm", *caps, "-ref", "device", "-secret", "pass:wrong", check=False).returncode != 0
    assert openssl("-cmd", "genm", *caps, "-ref", "stranger", "-secret", "env:SECRET", check=False).returncode != 0


def test_twenty_openssl_clients_at_once_are_served(openssl: OpenSSL, tmp_path: Path) -> None:
    def one(number: int) -> int:
        place = f"{number}.pem"
        openssl("-cmd", "ir", *BY_SECRET, "-newkey", "new.key", "-subject", f"/CN=many-{number}", "-certout", place)
        return x509.load_pem_x509_certificate((tmp_path / place).read_bytes()).serial_number

    with ThreadPoolExecutor(20) as threads:
        assert len(set(threads.map(one, range(20)))) == 20


@pytest.mark.parametrize(
    ("operation", "request_", "served"),
    [
        ("getcacerts", ("-cmd", "genm", "-infotype", "caCerts", "-cacertsout", "received.pem"), True),
        ("p/any/getcacerts", ("-cmd", "genm", "-infotype", "caCerts", "-cacertsout", "received.pem"), True),
        ("getcrls", ("-cmd", "genm", "-infotype", "caCerts", "-cacertsout", "received.pem"), False),
        ("revocation", ("-cmd", "genm", "-infotype", "caCerts", "-cacertsout", "received.pem"), False),
        ("certification", ("-cmd", "cr", *REQUEST), True),
        ("initialization", ("-cmd", "cr", *REQUEST), False),
    ],
)
def test_the_path_of_another_operation_is_a_bad_request(
    openssl: OpenSSL, operation: str, request_: tuple[str, ...], served: bool
) -> None:
    result = openssl(*request_, *BY_SECRET, "-path", f".well-known/cmp/{operation}", check=False)
    assert (result.returncode == 0) is served
    assert served is not ("badRequest" in result.stdout + result.stderr)


def test_our_client_gets_renews_and_revokes_a_certificate(cli: CLI, url: str, tmp_path: Path) -> None:
    where = ("--server", url)
    files = ("--newkeyout", tmp_path / "device.key", "--certout", tmp_path / "device.pem")
    own = ("--cert", tmp_path / "device.pem", "--key", tmp_path / "device.key", "--trusted", tmp_path / "ca.pem")
    by_secret = ("--ref", "device", "--secret", "env:SECRET")
    new = ("--newkey", "ec:P-256", *files)
    sans = ("--sans", "device.example,192.0.2.1", "--cacertsout", tmp_path / "ca.pem")
    result = cli("enroll", *where, *by_secret, "--subject", "/CN=ours", *new, *sans, env=SECRET)
    assert result.code == 0, result
    assert (tmp_path / "device.key").stat().st_mode & 0o777 == 0o600
    first = x509.load_pem_x509_certificate((tmp_path / "device.pem").read_bytes())
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["device.example"]

    result = cli("update", *where, *own, *new)
    assert result.code == 0, result
    second = x509.load_pem_x509_certificate((tmp_path / "device.pem").read_bytes())
    assert second.public_key() != first.public_key()
    assert second.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == names

    result = cli("info", *where, *own, "--infotype", "caCerts")
    assert result.out == (tmp_path / "ca.pem").read_text()
    assert "keys" in cli("info", *where, *own, "--infotype", "certReqTemplate").out
    assert cli("info", *where, *own, "--infotype", "rootCaCert", "--oldwithold", tmp_path / "ca.pem").code == 0

    result = cli("revoke", *where, *own, "--revreason", "superseded", "--json")
    assert json.loads(result.out)["status"] == "accepted"
    result = cli("revoke", *where, *own)
    assert result.code == 3
    assert "certRevoked" in result.err

    result = cli(
        "info", *where, *by_secret, "--infotype", "crlStatusList", "--crlcert", tmp_path / "device.pem", env=SECRET
    )
    assert result.code == 0, result
    crl = x509.load_pem_x509_crl(result.out.encode())
    assert crl.get_revoked_certificate_by_serial_number(second.serial_number) is not None
    place = tmp_path / "held.crl"
    place.write_text(result.out)
    result = cli("info", *where, *by_secret, "--infotype", "crlStatusList", "--oldcrl", place, env=SECRET)
    assert (result.code, result.out, result.err) == (0, "", "there is no newer CRL\n")
    with urlopen(url.replace("/.well-known/cmp", "/crl")) as response:
        assert x509.load_der_x509_crl(response.read()) == crl


def test_our_client_sends_a_csr(cli: CLI, url: str, openssl: OpenSSL, tmp_path: Path) -> None:
    options = ("--ref", "device", "--secret", "env:SECRET", "--csr", tmp_path / "new.csr", "--json")
    result = cli("enroll", "--server", url, *options, env=SECRET)
    assert result.code == 0, result
    assert json.loads(result.out)["subject"] == "CN=openssl"


def test_a_ca_is_made_once_and_its_files_are_private(cli: CLI, tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    result = cli("ca", "init", directory, "--subject", "/O=Test/CN=Mine", "--key", "rsa:2048", "--days", "30", "--json")
    assert result.code == 0, result
    told = json.loads(result.out)
    assert told["subject"] == "CN=Mine,O=Test"
    certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    assert 29 <= (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 30
    for name in ("ca.key", "vault.key"):
        assert (directory / name).stat().st_mode & 0o777 == 0o600
    result = cli("ca", "init", directory)
    assert result.code == 7
    assert "already" in result.err


def test_a_secret_is_made_kept_encrypted_and_forgotten(cli: CLI, ca_directory: Path) -> None:
    result = cli("ca", "secret", ca_directory, "fresh")
    assert result.code == 0
    secret = result.out.strip()
    assert len(secret) >= 16
    assert all(secret.encode() not in path.read_bytes() for path in ca_directory.iterdir())
    assert secret not in result.err
    assert cli("ca", "secret", ca_directory, "fresh").code == 7
    assert cli("ca", "secret", ca_directory, "fresh", "--remove").code == 0
    assert cli("ca", "secret", ca_directory, "fresh", "--remove").code == 7
    result = cli("ca", "secret", ca_directory, "given", "--secret", "env:SECRET", "--json", env=SECRET)
    assert json.loads(result.out) == {"reference": "given"}
    assert cli("ca", "secret", ca_directory, "given", "--remove", "--single_use").code == 2


def test_a_secret_is_bound_to_names_and_profiles(cli: CLI, ca_directory: Path, openssl: OpenSSL) -> None:
    bound = ("--subject", "CN=mine(,O=Test)?|DNS:mine\\.example", "--cert_profile", "default", "--secret", "env:SECRET")
    assert cli("ca", "secret", ca_directory, "bound", *bound, env=SECRET).code == 0
    by_secret = ("-ref", "bound", "-secret", "env:SECRET", "-newkey", "new.key", "-certout", "bound.pem")
    openssl("-cmd", "ir", *by_secret, "-subject", "/O=Test/CN=mine", "-sans", "mine.example")
    for others in (("-subject", "/CN=yours"), ("-subject", "/CN=mine", "-sans", "yours.example")):
        refused = openssl("-cmd", "ir", *by_secret, *others, check=False)
        assert refused.returncode != 0
        assert "notAuthorized" in refused.stdout + refused.stderr
    result = cli("ca", "secret", ca_directory, "wrong", "--subject", "(")
    assert result.code == 7
    assert "regular expression" in result.err
    assert cli("ca", "secret", ca_directory, "bound", "--remove", "--subject", "x").code == 2


@pytest.mark.parametrize("command", [("ca", "secret", "{}", "r"), ("serve", "{}")])
def test_a_directory_without_a_ca_is_a_clear_error(cli: CLI, tmp_path: Path, command: tuple[str, ...]) -> None:
    result = cli(*(each.format(tmp_path) for each in command))
    assert result.code == 7
    assert "there is no CA" in result.err


def test_a_key_that_others_can_read_is_refused(cli: CLI, tmp_path: Path) -> None:
    CA.create(tmp_path / "ca").close()
    (tmp_path / "ca" / "vault.key").chmod(0o644)
    result = cli("ca", "secret", tmp_path / "ca", "r")
    assert result.code == 7
    assert "chmod 600" in result.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--profile", "nonsense"), "rfc9810"),
        (("--tls_cert", "x"), "together"),
        (("--path", "x"), "--path"),
        (("--port", "99999"), "--port"),
    ],
)
def test_wrong_options_of_the_server_are_usage_errors(
    cli: CLI, ca_directory: Path, options: tuple[str, ...], words: str
) -> None:
    result = cli("serve", ca_directory, *options)
    assert result.code == 2
    assert words in result.err


@pytest.mark.parametrize("where", ["directory", "config"])
def test_settings_are_checked_before_the_server_starts(
    cli: CLI, ca_directory: Path, tmp_path: Path, where: str
) -> None:
    place = (ca_directory if where == "directory" else tmp_path) / "opensslcmp.toml"
    place.write_text("[server]\nhosts = 1\nport = 99999\n")
    config = () if where == "directory" else ("--config", place)
    for check in ((), ("--check",)):
        result = cli("serve", ca_directory, *config, *check)
        assert result.code == 7
        assert f"{place}:2: [server] hosts is not known; did you mean host" in result.err
    place.write_text("[server]\nport = 99999\n")
    assert f"{place}:2: [server] port is not between 0 and 65535" in cli("serve", ca_directory, *config, "--check").err
    place.write_text("[server]\nport = 0\n")
    result = cli("serve", ca_directory, *config, "--check")
    assert result.code == 0
    assert result.err.splitlines() == [
        f"{place}: no problem was found",
        "rules: rfc9810",
        "issuing profiles: default (the default)",
        "who may ask: everybody whose credential is known; 0 registration authorities listed",
    ]
    place.unlink()
    assert cli("serve", ca_directory, *config, "--check").code == (0 if where == "directory" else 7)


def test_an_option_wins_over_the_file(cli: CLI, ca_directory: Path, tmp_path: Path) -> None:
    place = tmp_path / "own.toml"
    place.write_text('[server]\nhost = "192.0.2.1"\nport = 1\npaths = ["/pkix"]\n')
    options = ("--config", str(place), "--host", "127.0.0.1", "--port", "0")
    with running("-m", "opensslcmp", "serve", str(ca_directory), *options) as (url, _, _):
        result = cli("info", "--server", url.replace("/.well-known/cmp", "/pkix"), "--ref", "device",
                     "--secret", "env:SECRET", "--infotype", "caCerts", env=SECRET)  # fmt: skip
        assert result.code == 0, result


@pytest.mark.parametrize("profile", ["strict", "lenient"])
def test_each_profile_serves_our_client(cli: CLI, ca_directory: Path, tmp_path: Path, profile: str) -> None:
    options = ("--ref", "device", "--secret", "env:SECRET", "--newkey", "ec:P-256", "--newkeyout", tmp_path / "k")
    with running("-m", "opensslcmp", "serve", str(ca_directory), "--port", "0", "--profile", profile) as (url, _, _):
        result = cli("enroll", "--server", url, *options, "--subject", "/CN=x", env=SECRET)
    assert result.code == 0, result


def test_two_workers_serve_one_ca(cli: CLI, ca_directory: Path, tmp_path: Path) -> None:
    options = ("--ref", "device", "--secret", "env:SECRET", "--newkey", "ec:P-256", "--newkeyout", tmp_path / "k")
    serve = ("-m", "opensslcmp", "serve", str(ca_directory), "--port", "0", "--workers", "2")
    with running(*serve, stop=signal.SIGINT) as (url, _, _):
        for number in range(6):
            result = cli("enroll", "--server", url, *options, "--subject", f"/CN=worker-{number}", env=SECRET)
            assert result.code == 0, result


def demo(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path[1:]])
    command = [sys.executable, "-P", "-m", "opensslcmp", "demo", *arguments]
    env = os.environ | {"PYTHONPATH": paths} | environment
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_the_demo_works_beside_sources_that_are_not_built(tmp_path: Path) -> None:
    (tmp_path / "opensslcmp").mkdir()
    (tmp_path / "opensslcmp" / "__init__.py").write_text("raise ImportError('the wrong one')")
    result = demo(cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_demo_tells_what_happens_and_leaves_nothing(tmp_path: Path) -> None:
    result = demo(TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for word in ("1. A CA is made", "(ir)", "(kur)", "(rr)", "certRevoked", " ms]"):
        assert word in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_keeps_its_directory_when_asked_and_wants_a_new_one(tmp_path: Path) -> None:
    result = demo("--keep", str(tmp_path / "kept"), "--json")
    assert result.returncode == 0, result.stderr
    steps = json.loads(result.stdout)["steps"]
    assert [step["name"] for step in steps] == ["ca", "secret", "server", "enroll", "update", "revoke", "refused"]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["ca", "device"]
    assert (tmp_path / "kept" / "device" / "first.key").stat().st_mode & 0o777 == 0o600
    assert demo("--keep", str(tmp_path / "kept")).returncode == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_stopped_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path[1:]])
    env = os.environ | {"PYTHONPATH": paths, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-P", "-m", "opensslcmp", "demo"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "url: " in line:
                break
        process.send_signal(number)
        _, words = process.communicate(timeout=30)
    assert process.returncode in {0, 130}
    assert "Traceback" not in words
    assert list(tmp_path.iterdir()) == []
