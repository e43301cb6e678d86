"""``opensslcmp enroll-many``: what an inventory may hold, and one certificate for each line whatever happens to the command.

``OPENSSLCMP_INVENTORY`` is how many lines the inventory has that is interrupted (docs/testing.md).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from opensslcmp import PrivateKey, SharedSecret, Signer
from opensslcmp.cli.enroll_many import read_inventory
from opensslcmp.cli.exits import InputError
from opensslcmp.cli.files import write_durably
from opensslcmp.server.ca import CA
from opensslcmp.server.store import CertificateState
from tests.cli.conftest import CLI
from tests.server.web_client import environment, running

LINES = int(os.environ.get("OPENSSLCMP_INVENTORY", "60"))
SECRET = {"SECRET": "correct horse"}
BY_SECRET = ("--ref", "device", "--secret", "env:SECRET")


@pytest.fixture(scope="module")
def ca_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ca") / "ca"
    ca = CA.create(directory, "CN=Fleet CA")
    ca.add_secret("device", SECRET["SECRET"])
    ca.add_secret("other", "another secret")
    ca.close()
    return directory


@pytest.fixture(scope="module")
def url(ca_directory: Path) -> Iterator[str]:
    with running("-m", "opensslcmp", "serve", str(ca_directory), "--port", "0") as (url, _, _):
        yield url


def inventory(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def issued(ca_directory: Path, prefix: str) -> Counter[tuple[str, CertificateState]]:
    """Names and states of the CA's certificates whose names begin so."""
    ca = CA.open(ca_directory)
    try:
        names = (
            (x509.load_der_x509_certificate(record.certificate).subject.rfc4514_string(), record.state)
            for record in ca.store.every_certificate()
        )
        return Counter(each for each in names if each[0].startswith(f"CN={prefix}"))
    finally:
        ca.close()


def test_each_line_gets_its_certificate_key_and_line_in_the_report(cli: CLI, url: str, tmp_path: Path) -> None:
    lines = inventory(
        tmp_path / "i.csv",
        "id,subject,sans,key,days,ref,secret\n"
        "# a word between\n"
        'one,CN=one,,,,,\n\ntwo,"/O=Example/CN=two","two.example,192.0.2.1",ed25519,30,,\n'
        "three,,three.example,,,other,another secret\n",
    )
    out = tmp_path / "out"
    result = cli(
        "enroll-many", lines, "--out", out, "--server", url, *BY_SECRET,
        "--report", tmp_path / "r.json", "--json", "--concurrency", 2, env=SECRET,
    )  # fmt: skip
    assert result.code == 0, result.err
    report = json.loads((tmp_path / "r.json").read_text())
    assert report == json.loads(result.out)
    assert (report["lines"], report["issued"], report["failed"]) == (3, 3, 0)
    assert [each["line"] for each in report["results"]] == [3, 5, 6]
    for name in ("one", "two", "three"):
        key = out / f"{name}.key"
        assert key.stat().st_mode & 0o777 == 0o600
        chain = x509.load_pem_x509_certificates((out / f"{name}.pem").read_bytes())
        assert PrivateKey.load(str(key)).public_key_der in chain[0].tbs_certificate_bytes
        assert chain[1].subject.rfc4514_string() == "CN=Fleet CA"
    assert PrivateKey.load(str(out / "two.key")).key_type == "ED25519"
    again = cli("enroll-many", lines, "--out", out, "--server", url, *BY_SECRET, env=SECRET)
    assert again.code == 0
    assert "present  3" in again.err


def test_json_lines_are_an_inventory_too(cli: CLI, url: str, tmp_path: Path) -> None:
    lines = inventory(
        tmp_path / "i.jsonl", '{"id": "j1", "subject": "CN=j1", "days": 9}\n\n{"id": "j2", "sans": "j2"}\n'
    )
    result = cli(
        "enroll-many", lines, "--out", tmp_path / "o", "--server", url, *BY_SECRET, "--profile", "x", env=SECRET
    )
    # The server has no such profile: each line fails by itself, and is told.
    assert result.code == 9
    assert "line 1: j1:" in result.err
    assert "failed  2" in result.err
    assert cli("enroll-many", lines, "--out", tmp_path / "o", "--server", url, *BY_SECRET, env=SECRET).code == 0


def test_a_line_that_fails_is_tried_again_with_its_key(cli: CLI, url: str, tmp_path: Path) -> None:
    lines = inventory(tmp_path / "i.csv", "id,subject,ref,secret\na,CN=a,other,wrong\n")
    assert cli("enroll-many", lines, "--out", tmp_path, "--server", url, "--total_timeout", 5, env=SECRET).code == 9
    key = (tmp_path / "a.key").read_bytes()
    inventory(lines, "id,subject,ref,secret\na,CN=a,other,another secret\n")
    result = cli("enroll-many", lines, "--out", tmp_path, "--server", url, env=SECRET)
    assert result.code in {0, 9}
    assert (tmp_path / "a.key").read_bytes() == key


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no lines"),
        ("id\n", "no lines"),
        ("name\nx\n", "line 1: the columns are"),
        ("id,id\nx,y\n", "line 1: the columns are"),
        ("id,subject\na\n", "line 2: 1 columns, not 2"),
        ('id,subject\na,"CN=x\n', "line "),
        ("id,subject\n../x,CN=x\n", "line 2: id"),
        ("id,subject\n,CN=x\n", "line 2: id"),
        ("id,subject\na,CN=x\nA,CN=y\n", "line 3: id: A is that of line 2 too"),
        ("id,subject\na,nonsense\n", "line 2: subject"),
        ("id,subject\na,\n", "needs a subject"),
        ("id,subject,key\na,CN=x,ec:none\n", "line 2: key: no such curve"),
        ("id,subject,key\na,CN=x,rsa:512\n", "line 2: key"),
        ("id,subject,days\na,CN=x,-1\n", "line 2: days"),
        ("id,subject,ref\na,CN=x,r\n", "line 2: secret: ref and secret"),
        ("id,subject,ref,secret\na,CN=x,r,env:NOT_THERE\n", "line 2: secret: secret: the environment has no NOT_THERE"),
        ("id,subject,cert,certkey\na,CN=x,/no/c,/no/k\n", "line 2: cert"),
        ("id,subject,cert,certkey\na,CN=x,/no/c,\n", "line 2: cert: cert and certkey"),
        ("id,subject,cert,certkey,ref,secret\na,CN=x,c,k,r,s\n", "either ref and secret"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    cli: CLI, tmp_path: Path, text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = inventory(tmp_path / "i.csv", text)
    result = cli("enroll-many", lines, "--out", tmp_path / "o", "--server", "127.0.0.1:1", *BY_SECRET, env=SECRET)
    assert result.code == 7
    assert words in result.err
    assert not (tmp_path / "o").exists()


def test_json_lines_that_are_wrong_are_said_too(tmp_path: Path) -> None:
    path = inventory(
        tmp_path / "i.jsonl", '{"id": 1, "subject": "CN=x"}\nx\n[]\n{"no": 1}\n{"id": ["a"]}\n{"id": true}\n'
    )
    with pytest.raises(InputError) as raised:
        read_inventory(path)
    text = str(raised.value)
    for words in ("line 2: not JSON", "line 3: not an object", "line 4: no: no such", "line 5: id", "line 6: id"):
        assert words in text


def test_secrets_stand_in_private_inventories_only(tmp_path: Path) -> None:
    path = inventory(tmp_path / "i.csv", "id,subject,ref,secret\na,CN=x,r,hidden-secret\n")
    (line,) = read_inventory(path)
    assert line.credential == SharedSecret("r", "hidden-secret")
    assert "hidden" not in repr(line)
    path.chmod(0o640)
    with pytest.raises(InputError, match="mode 0600") as raised:
        read_inventory(path)
    assert "hidden" not in str(raised.value)
    file = tmp_path / "s"
    file.write_text("from a file\n")
    path.write_text(f"id,subject,ref,secret\na,CN=x,r,file:{file}\n")
    assert read_inventory(path)[0].credential == SharedSecret("r", "from a file")


def test_a_line_may_sign(tmp_path: Path, ca_directory: Path) -> None:
    path = inventory(
        tmp_path / "i.csv", f"id,subject,cert,certkey\na,CN=x,{ca_directory / 'ca.pem'},{ca_directory / 'ca.key'}\n"
    )
    assert isinstance(read_inventory(path)[0].credential, Signer)


def test_a_dry_run_sends_and_writes_nothing(cli: CLI, tmp_path: Path) -> None:
    lines = inventory(tmp_path / "i.csv", "id,subject\na,CN=a\nb,CN=b\n")
    result = cli(
        "enroll-many", lines, "--out", tmp_path / "o", "--server", "127.0.0.1:1", *BY_SECRET, "--dry-run", env=SECRET
    )
    assert result.code == 0
    assert "2 lines are well" in result.err
    assert not (tmp_path / "o").exists()


def test_who_asks_must_be_said(cli: CLI, tmp_path: Path) -> None:
    lines = inventory(tmp_path / "i.csv", "id,subject,ref,secret\na,CN=a,r,s\nb,CN=b,,\n")
    result = cli("enroll-many", lines, "--out", tmp_path / "o", "--server", "127.0.0.1:1")
    assert result.code == 2
    assert "line 3 says not who asks" in result.err
    assert cli("enroll-many", lines, "--out", tmp_path, "--server", "x", "--concurrency", 0).code == 2
    assert cli("enroll-many", lines, "--out", tmp_path, "--server", "x", "--newkey", "ec:x").code == 2


def test_a_certificate_that_is_not_of_the_journal_is_not_overwritten(cli: CLI, url: str, tmp_path: Path) -> None:
    lines = inventory(tmp_path / "i.csv", "id,subject\nmine,CN=mine\n")
    (tmp_path / "mine.pem").write_text("precious")
    result = cli("enroll-many", lines, "--out", tmp_path, "--server", url, *BY_SECRET, env=SECRET)
    assert result.code == 7
    assert "not of this journal" in result.err
    assert (tmp_path / "mine.pem").read_text() == "precious"


def test_several_servers_may_be_named(cli: CLI, url: str, tmp_path: Path) -> None:
    lines = inventory(tmp_path / "i.csv", "id,subject\nsecond,CN=second\n")
    servers = f"http://127.0.0.1:1/.well-known/cmp,{url}"
    assert cli("enroll-many", lines, "--out", tmp_path, "--server", servers, *BY_SECRET, env=SECRET).code == 0


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    place = tmp_path / "x"
    write_durably(place, b"content", secret=True)
    assert (place.read_bytes(), place.stat().st_mode & 0o777) == (b"content", 0o600)
    with pytest.raises(IsADirectoryError):
        write_durably(tmp_path, b"content")
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


@pytest.mark.timeout(120 + LINES // 5)
def test_an_interrupted_inventory_ends_with_one_certificate_a_line(
    url: str, ca_directory: Path, tmp_path: Path
) -> None:
    """SIGINT and SIGKILL in turn, each after some of the lines, then to the end."""
    lines = inventory(
        tmp_path / "i.csv", "id,subject\n" + "".join(f"dev-{number},CN=dev-{number}\n" for number in range(LINES))
    )
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "opensslcmp", "enroll-many", str(lines), "--out", str(out), "--server", url,
        *BY_SECRET, "--report", str(tmp_path / "r.json"), "--concurrency", "16",
    ]  # fmt: skip
    chance = random.Random(3)
    begun = time.monotonic()
    for turn, sent in enumerate((signal.SIGINT, signal.SIGKILL, signal.SIGINT, signal.SIGKILL), 1):
        wanted = LINES * turn // 6 + chance.randrange(3)
        with subprocess.Popen(command, env=environment() | SECRET, stderr=subprocess.PIPE, text=True) as process:
            while len(list(out.glob("*.pem"))) < wanted:
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.01)
            process.send_signal(sent)
            _, told = process.communicate(timeout=60)
            assert process.returncode == (130 if sent is signal.SIGINT else -signal.SIGKILL), told
        assert {each.stat().st_mode & 0o777 for each in out.glob("*.key")} == {0o600}
        assert all(each.read_bytes().endswith(b"-----END CERTIFICATE-----\n") for each in out.glob("*.pem"))
    done = subprocess.run(command, env=environment() | SECRET, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(f"{LINES} lines, interrupted 4 times, in {time.monotonic() - begun:.1f} s\n{done.stderr}")
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["lines"], report["issued"] + report["present"], report["failed"]) == (LINES, LINES, 0)
    expected = {(f"CN=dev-{number}", CertificateState.VALID): 1 for number in range(LINES)}
    assert issued(ca_directory, "dev-") == expected
    for number in range(LINES):
        certificate = x509.load_pem_x509_certificate((out / f"dev-{number}.pem").read_bytes())
        assert PrivateKey.load(str(out / f"dev-{number}.key")).public_key_der in certificate.tbs_certificate_bytes
