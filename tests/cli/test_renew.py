"""``opensslcmp renew``: what expires soon is replaced, certificate and key at once, whatever happens to the command."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from opensslcmp import Context, PrivateKey, Session, SharedSecret, Signer
from opensslcmp.cli import renew as renewal
from opensslcmp.cli.files import pem
from opensslcmp.cli.renew import Pair, find_pairs, install
from opensslcmp.context.certificates import load_certificates
from opensslcmp.server.ca import CA
from opensslcmp.server.store import CertificateState
from tests.cli.conftest import CLI
from tests.server.web_client import running


@pytest.fixture(scope="module")
def ca_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ca") / "ca"
    ca = CA.create(directory, "CN=Renewing CA")
    ca.add_secret("device", "correct horse")
    ca.close()
    return directory


@pytest.fixture(scope="module")
def url(ca_directory: Path) -> Iterator[str]:
    with running("-m", "opensslcmp", "serve", str(ca_directory), "--port", "0") as (url, _, _):
        yield url


Put = Callable[..., Pair]


@pytest.fixture
def put(url: str, tmp_path: Path) -> Iterator[Put]:
    """Puts a certificate and its key into the directory ``pairs``."""
    directory = tmp_path / "pairs"
    directory.mkdir()
    session = Session(Context(url, credential=SharedSecret("device", "correct horse")))

    def one(name: str, days: int = 3, kind: str = "ec:P-256", together: bool = False) -> Pair:
        issued = session.enroll(f"CN={name}", generate=kind, validity=days)
        assert issued.key is not None
        chain = pem([issued.certificate, *issued.chain])
        certificate, key = directory / f"{name}.pem", directory / f"secret-of-{name}.key"
        if together:
            key = certificate
            certificate.write_bytes(chain + issued.key.to_pem())
        else:
            certificate.write_bytes(chain)
            certificate.chmod(0o644)
            key.write_bytes(issued.key.to_pem())
        key.chmod(0o600)
        return Pair(certificate=certificate, key=key, chain=tuple(load_certificates(str(certificate))))

    yield one
    session.context.close()


Run = Callable[..., Any]


@pytest.fixture
def renew(cli: CLI, url: str, ca_directory: Path, tmp_path: Path) -> Run:
    where = (tmp_path / "pairs", "--server", url, "--trusted", ca_directory / "ca.pem")
    return lambda *options, **more: cli("renew", *where, *options, **more)


def fits(pair: Pair) -> x509.Certificate:
    """The certificate that is in place, which the key that is in place fits."""
    certificate = load_certificates(str(pair.certificate))[0]
    key = PrivateKey.load(str(pair.key))
    parsed = x509.load_der_x509_certificate(certificate)
    assert key.public_key_der in parsed.tbs_certificate_bytes
    return parsed


def test_what_expires_soon_is_renewed_and_the_rest_is_left(put: Put, renew: Run) -> None:
    soon, late = put("soon"), put("late", days=90)
    both = put("both", together=True, kind="ed25519")
    before = {pair.name: fits(pair) for pair in (soon, late, both)}
    result = renew("--days", 30, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert (told["certificates"], told["due"], told["failed"]) == (3, 2, 0)
    assert {each["name"]: each["state"] for each in told["results"]} == {"soon.pem": "renewed", "both.pem": "renewed"}
    after = {pair.name: fits(pair) for pair in (soon, late, both)}
    assert after["late.pem"] == before["late.pem"]
    for pair in (soon, both):
        assert after[pair.name].serial_number != before[pair.name].serial_number
        assert after[pair.name].subject == before[pair.name].subject
        assert pair.key.stat().st_mode & 0o777 == 0o600
    assert soon.certificate.stat().st_mode & 0o777 == 0o644
    assert PrivateKey.load(str(both.key)).key_type == "ED25519"
    # The old pair is there still.
    backup = soon.certificate.parent / ".renew" / "soon.pem" / "0001"
    old = Pair(certificate=backup / "soon.pem", key=backup / "secret-of-soon.key", chain=soon.chain)
    assert fits(old) == before["soon.pem"]
    assert renew("--days", 1).code == 0


def test_old_versions_are_kept_as_many_as_wished(put: Put, renew: Run) -> None:
    pair = put("many")
    for _ in range(4):
        assert renew("--days", 4000, "--keep", 1).code == 0
    store = pair.certificate.parent / ".renew" / "many.pem"
    assert sorted(each.name for each in store.iterdir() if each.name.isdigit()) == ["0004", "0005"]
    fits(pair)


def test_nothing_to_do_is_done(renew: Run, tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n")
    result = renew()
    assert result.code == 0
    assert "0 certificates" in result.err


def test_a_dry_run_shows_what_is_due(put: Put, renew: Run) -> None:
    pair = put("due")
    result = renew("--dry-run", "--json")
    assert [each["state"] for each in json.loads(result.out)["results"]] == ["due"]
    assert not (pair.certificate.parent / ".renew").exists()


def test_one_that_fails_is_told_and_leaves_its_pair(put: Put, renew: Run, url: str, ca_directory: Path) -> None:
    good, revoked = put("good"), put("revoked")
    signer = Signer(str(revoked.certificate), str(revoked.key))
    Session(Context(url, credential=signer, trusted=ca_directory / "ca.pem")).revoke()
    before = fits(revoked)
    result = renew("--json")
    assert result.code == 9
    told = {each["name"]: each for each in json.loads(result.out)["results"]}
    assert told["good.pem"]["state"] == "renewed"
    assert told["revoked.pem"]["state"] == "failed"
    assert fits(revoked) == before
    fits(good)
    # The key that was made for it is of no use any more.
    assert not list(revoked.certificate.parent.rglob("next-*.key"))


def test_the_hook_runs_without_a_shell_and_is_owed_until_it_ends_well(put: Put, renew: Run, tmp_path: Path) -> None:
    pair = put("hooked")
    script = tmp_path / "hook.py"
    script.write_text(
        "import json, os, sys\n"
        "names = ('NAME', 'CERTIFICATE', 'KEY', 'SERIAL', 'NOT_AFTER')\n"
        f"with open({str(tmp_path / 'ran')!r}, 'a') as file:\n"
        "    print(json.dumps([sys.argv[1:], {name: os.environ['OPENSSLCMP_' + name] for name in names}]), file=file)\n"
        f"sys.exit(os.path.exists({str(tmp_path / 'fail')!r}))\n"
    )
    hook = f"{sys.executable} {script} '$(touch x); `id`' two"
    (tmp_path / "fail").touch()
    result = renew("--hook", hook)
    assert result.code == 9
    assert "the hook ended with 1" in result.err
    fits(pair)
    (tmp_path / "fail").unlink()
    assert renew("--days", 1, "--hook", hook).code == 0
    assert renew("--days", 1, "--hook", hook).code == 0
    ran = [json.loads(line) for line in (tmp_path / "ran").read_text().splitlines()]
    assert len(ran) == 2
    arguments, told = ran[1]
    assert arguments == ["$(touch x); `id`", "two"]
    assert told["NAME"] == "hooked.pem"
    assert told["SERIAL"] == f"{fits(pair).serial_number:x}"
    assert Path(told["KEY"]) == pair.key


def test_a_hook_that_is_not_there_is_told(put: Put, renew: Run) -> None:
    put("nohook")
    result = renew("--hook", "/not/there")
    assert result.code == 9
    assert "No such file" in result.err


def test_only_one_renews_at_a_time(put: Put, renew: Run) -> None:
    pair = put("locked")
    store = pair.certificate.parent / ".renew"
    store.mkdir()
    with (store / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = renew()
    assert result.code == 7
    assert "another renewal is at work" in result.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--secret", "env:X"), "each certificate renews itself"),
        (("--keep", -1), "not negative"),
        (("--hook", "a 'b"), "--hook"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    renew: Run, tmp_path: Path, options: tuple[Any, ...], words: str
) -> None:
    (tmp_path / "pairs").mkdir()
    result = renew(*options)
    assert result.code == 2
    assert words in result.err


def test_a_directory_that_is_not_there_is_told(renew: Run) -> None:
    assert renew().code == 7


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("together", [False, True], ids=["two files", "one file"])
def test_a_replacement_that_is_killed_anywhere_leaves_a_pair_that_fits(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    original = put("old", together=together)
    new = put("new", together=together)
    new_certificate = pem([fits(new)])
    new_key = PrivateKey.load(str(new.key)).to_pem()
    calls = 0

    def dies(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == dies_at:
                raise Killed
            return function(*arguments, **options)

        return run

    dies_at = 0
    finished = False
    while not finished:
        dies_at += 1
        calls = 0
        directory = tmp_path / f"copy-{dies_at}"
        directory.mkdir()
        for path in {original.certificate, original.key}:
            shutil.copy2(path, directory)
        pair = Pair(
            certificate=directory / original.certificate.name, key=directory / original.key.name, chain=original.chain
        )
        with monkeypatch.context() as patch:
            for name in ("replace", "rename", "symlink", "fsync", "unlink", "mkdir", "chmod"):
                patch.setattr(os, name, dies(getattr(os, name)))
            try:
                install(pair, new_certificate, new_key)
                finished = True
            except Killed:
                pass
        fits(pair)
        # The next run finishes it.
        install(pair, new_certificate, new_key)
        assert fits(pair) == fits(new)
    assert dies_at > 15


def test_a_renewal_killed_while_it_talks_is_finished_by_the_next(
    put: Put, renew: Run, ca_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = put("interrupted")
    before = fits(pair)

    def killed(*_: Any, **__: Any) -> Path:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(renewal, "install", killed)
        with pytest.raises(Killed):
            renew()
    assert fits(pair) == before
    assert renew().code == 0
    ca = CA.open(ca_directory)
    states = [
        record.state
        for record in ca.store.every_certificate()
        if x509.load_der_x509_certificate(record.certificate).subject == before.subject
    ]
    ca.close()
    assert sorted(states) == [CertificateState.VALID, CertificateState.UPDATED]
    assert fits(pair) != before


def test_pairs_are_found_by_key(put: Put) -> None:
    pair = put("found")
    directory = pair.certificate.parent
    (directory / "a-stray.key").write_bytes(PrivateKey.generate("ec:P-256").to_pem())
    (directory / "notes.txt").write_text("x")
    (directory / "subdirectory.pem").mkdir()
    assert find_pairs(directory) == [pair]


def test_an_encrypted_key_stays_encrypted(put: Put, renew: Run) -> None:
    pair = put("sealed")
    key = PrivateKey.load(str(pair.key))
    pair.key.write_bytes(key.to_pem(b"password"))
    result = renew()
    assert result.code == 9
    assert "0 certificates" in result.err
    script, seen = pair.key.parent.parent / "hook.py", pair.key.parent.parent / "seen"
    script.write_text(f"import json, os\njson.dump(dict(os.environ), open({str(seen)!r}, 'w'))\n")
    hook = ("--hook", f"{sys.executable} {script}")
    environment = {"PASSWORD": "open the key", "HARMLESS": "x"}
    pair.key.write_bytes(key.to_pem(b"open the key"))
    assert renew("--keypass", "env:PASSWORD", *hook, env=environment).code == 0
    pair.key.write_bytes(PrivateKey.load(str(pair.key), b"open the key").to_pem(b"password"))
    told = json.loads(seen.read_text())
    assert told["HARMLESS"] == "x"
    assert "open the key" not in told.values()
    assert b"ENCRYPTED" in pair.key.read_bytes()
    assert PrivateKey.load(str(pair.key), b"password").public_key_der != key.public_key_der


def test_a_key_that_does_not_load_is_told(put: Put, renew: Run) -> None:
    """Its certificate would expire, and each run end well."""
    pair, other = put("broken"), put("whole", days=90)
    pair.key.write_bytes(b"garbage")
    both = put("both", days=90, together=True)
    both.key.write_bytes(both.key.read_bytes().replace(b"MI", b"!!"))
    result = renew("--json")
    assert result.code == 9
    told = {each["name"]: each["state"] for each in json.loads(result.out)["results"]}
    assert told == {pair.key.name: "failed", both.key.name: "failed"}
    assert other.name not in told
