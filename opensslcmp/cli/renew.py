"""``opensslcmp renew``: the certificates of a directory that expire soon are renewed, with new keys; made for cron.

A certificate and its key are two files, and no system call replaces two files at once. So the pair lives in a version of its
own, and what stood under the two names become links through one more link, which is replaced at once:

    device.pem -> .renew/device/current/device.pem
    device.key -> .renew/device/current/device.key
    .renew/device/current -> 0002

The first renewal makes the links, one by one, to a copy of what is there (``0001``): whenever it is killed, both names lead to
a certificate and the key that fits it. A file that holds both is one file in its version. Old versions stay as backups.

A renewal that was killed goes on with the next run: the new key is on the disk before the request leaves, and the journal
(``.renew/journal``) knows the transaction, under the fingerprint of the certificate that it renews. The hook is owed, by a
file in the new version, until it has ended well once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from opensslcmp.cli.exits import Exit, InputError, UsageError
from opensslcmp.cli.files import pem, read_secret, sync_directory, write_durably
from opensslcmp.cli.options import ClientOptions, make_context
from opensslcmp.cli.talk import give_json, say
from opensslcmp.client.context import Context
from opensslcmp.client.failover import Retry
from opensslcmp.client.journal import Journal
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import facts, load_certificates
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import Signer
from opensslcmp.errors import CMPError

__all__ = ["Pair", "find_pairs", "install", "renew"]

_STORE = ".renew"
_CERTIFICATES = frozenset((".pem", ".crt", ".cer"))
_KEYS = frozenset((".pem", ".key"))
_DAY = 86400.0
_HOOK_SECONDS = 300.0
_OWED = "hook-owed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A certificate of the directory and the file with its private key.

    Attributes:
        certificate: its file; the key's too, when that holds both.
        key: the key's file.
        chain: DER of the certificate and what follows it in its file.
    """

    certificate: Path
    key: Path
    chain: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """Of its versions, below the directory."""
        return self.certificate.name


def find_pairs(directory: Path, password: bytes | None = None, broken: dict[Path, str] | None = None) -> list[Pair]:
    """The certificates of a directory whose private keys are there too, by name. Found by public key, not by file name.

    Args:
        broken: gets the files that should hold a private key, and why they do not load.
    """
    keys: dict[bytes, Path] = {}
    certificates: list[tuple[Path, tuple[bytes, ...]]] = []
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix in _KEYS:
            try:
                keys.setdefault(PrivateKey.load(str(path), password).public_key_der, path)
            except (CMPError, OSError, ValueError) as error:
                if broken is not None and _should_be_a_key(path):
                    broken[path] = str(error)
        if path.suffix in _CERTIFICATES:
            try:
                certificates.append((path, tuple(load_certificates(str(path), password))))
            except (CMPError, OSError, ValueError):
                continue
    found = []
    for path, chain in certificates:
        key = keys.get(facts(chain[0]).spki)
        if key is not None:
            found.append(Pair(certificate=path, key=key, chain=chain))
    return found


def _should_be_a_key(path: Path) -> bool:
    """By its name, or because it says so; also when it cannot be read."""
    try:
        return path.suffix == ".key" or b"PRIVATE KEY-----" in path.read_bytes()
    except OSError:
        return True


def install(pair: Pair, certificate: bytes, key: bytes, *, owed: bool = False) -> Path:
    """Put a new certificate (PEM, with its chain) and its key (PEM) in the place of a pair, both at once.

    Args:
        owed: note that the hook is to be run.

    Returns:
        where the version is.
    """
    store = pair.certificate.parent / _STORE / pair.name
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    versions = _versions(store)
    if not _is_linked(pair, store):
        number = versions[-1] + 1 if versions else 1
        contents = {path.name: path.read_bytes() for path in (pair.certificate, pair.key)}
        _point(store, _version(store, number, contents, pair))
        for path in dict.fromkeys((pair.key, pair.certificate)):
            _link(path, Path(_STORE) / pair.name / "current" / path.name)
        versions = _versions(store)
    if pair.certificate == pair.key:
        contents = {pair.certificate.name: certificate + key}
    else:
        contents = {pair.certificate.name: certificate, pair.key.name: key}
    made = _version(store, versions[-1] + 1, contents | ({_OWED: b""} if owed else {}), pair)
    _point(store, made)
    return made


def _versions(store: Path) -> list[int]:
    return sorted(int(each.name) for each in store.iterdir() if re.fullmatch(r"\d{4,}", each.name))


def _is_linked(pair: Pair, store: Path) -> bool:
    """Both names lead through ``current``."""
    return all(
        path.is_symlink() and os.readlink(path) == str(Path(_STORE) / store.name / "current" / path.name)
        for path in (pair.certificate, pair.key)
    )


def _version(store: Path, number: int, contents: dict[str, bytes], pair: Pair) -> Path:
    """A new version, whole or not at all. Modes are those of the files it follows, a key's never more than 0600."""
    beside, made = store / f".{number:04}", store / f"{number:04}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700)
    for name, content in contents.items():
        write_durably(beside / name, content, secret=True)
        if name == pair.certificate.name and pair.certificate != pair.key:
            (beside / name).chmod(pair.certificate.stat().st_mode & 0o777)
    mode = 0o755 if pair.certificate != pair.key else 0o700
    for directory in (beside, store, store.parent):
        directory.chmod(mode if directory != store.parent else 0o755)
    beside.rename(made)
    sync_directory(store)
    return made


def _point(store: Path, version: Path) -> None:
    _link(store / "current", Path(version.name))


def _link(place: Path, target: Path) -> None:
    """Make ``place`` a link to ``target`` at once, whatever it was."""
    beside = place.with_name(f".{place.name}.link")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    os.replace(beside, place)
    sync_directory(place.parent)


def _kind(key: PrivateKey, certificate: bytes) -> str:
    """The kind of a key, as ``PrivateKey.generate`` takes it."""
    if key.key_type == "EC":
        public = load_der_public_key(facts(certificate).spki)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        name = public.curve.name
        return f"ec:{ {'secp256r1': 'P-256', 'secp384r1': 'P-384', 'secp521r1': 'P-521', 'secp224r1': 'P-224'}.get(name, name) }"
    if key.key_type in {"RSA", "RSA-PSS"}:
        return f"{key.key_type.lower()}:{max(key.bits, 2048)}"
    return key.key_type.lower()


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Nobody else renews in this directory meanwhile; the lock ends with the process."""
    store = directory / _STORE
    store.mkdir(mode=0o755, exist_ok=True)
    descriptor = os.open(store / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise InputError(f"{directory}: another renewal is at work") from None
        yield
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class _Renewal:
    """One run of the command."""

    context: Context
    journal: Journal
    newkey: str | None
    password: bytes | None
    hook: list[str]
    keep: int
    profile: str | None
    secret_names: frozenset[str]

    def one(self, pair: Pair) -> dict[str, Any]:
        """Renew a pair.

        Raises:
            CMPError, OSError, ValueError: it could not be; the pair is as it was.
        """
        old = pair.chain[0]
        key = PrivateKey.load(str(pair.key), self.password)
        signer = Signer(pair.chain[0], key, chain=pair.chain[1:])
        store = pair.certificate.parent / _STORE / pair.name
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Named by what it follows: a key that was made for this renewal by a run that was killed.
        place = store / f"next-{facts(old).fingerprint.hex()[:32]}.key"
        if not place.exists():
            made = PrivateKey.generate(self.newkey or _kind(key, old))
            write_durably(place, made.to_pem(self.password), secret=True)
        session = Session(self.context.with_credential(signer), journal=self.journal)
        label = f"renew {facts(old).fingerprint.hex()}"
        try:
            issued = session.update(key=str(place), password=self.password, profile=self.profile, label=label)
        except Exception:
            if self.journal.find(label) is None:  # refused, or never sent: no certificate will come for this key
                place.unlink()
            raise
        version = install(pair, pem([issued.certificate, *issued.chain]), place.read_bytes(), owed=bool(self.hook))
        place.unlink()
        self.journal.forget(issued.transaction_id)
        self._thin_out(store)
        return {"version": str(version), "certificate": issued.certificate}

    def _thin_out(self, store: Path) -> None:
        """Leave so many old versions."""
        for number in _versions(store)[: -(self.keep + 1)]:
            shutil.rmtree(store / f"{number:04}")

    def run_hook(self, pair: Pair) -> None:
        """Run the hook that is owed, and note that it was run.

        Raises:
            OSError, ValueError: it could not be run, or did not end well; it is owed still.
        """
        owed = pair.certificate.parent / _STORE / pair.name / "current" / _OWED
        if not self.hook or not owed.exists():
            return
        certificate = x509.load_der_x509_certificate(load_certificates(str(pair.certificate), self.password)[0])
        environment = {name: value for name, value in os.environ.items() if name not in self.secret_names} | {
            "OPENSSLCMP_NAME": pair.name,
            "OPENSSLCMP_CERTIFICATE": str(pair.certificate.absolute()),
            "OPENSSLCMP_KEY": str(pair.key.absolute()),
            "OPENSSLCMP_SERIAL": f"{certificate.serial_number:x}",
            "OPENSSLCMP_NOT_AFTER": certificate.not_valid_after_utc.isoformat(),
        }
        try:
            done = subprocess.run(
                self.hook, env=environment, stdin=subprocess.DEVNULL, timeout=_HOOK_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"the hook took longer than {_HOOK_SECONDS:g} seconds") from None
        if done.returncode:
            raise ValueError(f"the hook ended with {done.returncode}")
        owed.unlink()


def _option(name: str, help_text: str, metavar: str | None = None) -> Any:
    return typer.Option(f"--{name}", help=help_text, rich_help_panel="Renewal", metavar=metavar)


def renew(
    directory: Annotated[Path, typer.Argument(help="Where certificates and keys are", metavar="DIR")],
    client: ClientOptions,
    *,
    days: Annotated[float, _option("days", "Renew what expires within so many days")] = 30.0,
    newkey: Annotated[str | None, _option("newkey", "Kind of the new keys; by default that of the old ones")] = None,
    hook: Annotated[
        str | None, _option("hook", "Command to run after each renewal, without a shell", metavar="CMD")
    ] = None,
    jitter: Annotated[float, _option("jitter", "Wait anything up to so many seconds before the first renewal")] = 0.0,
    keep: Annotated[int, _option("keep", "Old versions to keep of each pair")] = 3,
    dry_run: Annotated[bool, _option("dry-run", "Show what would be renewed")] = False,
) -> None:
    """Renew the certificates of a directory that expire soon (kur).

    A certificate belongs to the key that fits it, whatever the files are called. Both are replaced at once, by links into
    DIR/.renew, where old versions stay. For cron: one run at a time, and one that was killed is finished by the next.
    The hook finds OPENSSLCMP_NAME, _CERTIFICATE, _KEY, _SERIAL and _NOT_AFTER in its environment.
    """
    if client.secret is not None or client.cert is not None:
        raise UsageError("each certificate renews itself; --secret and --cert have no place here")
    if keep < 0 or jitter < 0:
        raise UsageError("--keep and --jitter are not negative")
    try:
        command = shlex.split(hook) if hook else []
    except ValueError as error:
        raise UsageError(f"--hook: {error}") from None
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory")
    password = read_secret(client.keypass, "--keypass") if client.keypass else None
    now = time.time()
    broken: dict[Path, str] = {}
    pairs = find_pairs(directory, password, broken)
    due = [pair for pair in pairs if facts(pair.chain[0]).not_after - now < days * _DAY]
    told: list[dict[str, Any]] = []
    if dry_run:
        told = [_about(pair, "due") for pair in due]
    elif pairs:
        with _only_one(directory):
            told = _renew_all(client, directory, pairs, due, command, jitter, newkey, keep, password)
    # Its certificate may be about to expire: nobody else would say so.
    told += [{"name": path.name, "state": "failed", "key": str(path), "error": text} for path, text in broken.items()]
    failed = [each for each in told if each["state"] == "failed"]
    for each in told:
        say(f"{each['name']}: {each['state']}" + (f": {each['error']}" if "error" in each else ""))
    say(f"{len(pairs)} certificates with keys, {len(due)} due, {len(failed)} failed")
    if client.as_json:
        give_json({"certificates": len(pairs), "due": len(due), "failed": len(failed), "results": told})
    if failed:
        raise typer.Exit(Exit.SOME_FAILED)


def _renew_all(
    client: ClientOptions,
    directory: Path,
    pairs: list[Pair],
    due: list[Pair],
    command: list[str],
    jitter: float,
    newkey: str | None,
    keep: int,
    password: bytes | None,
) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    first = (due or pairs)[0]
    key = PrivateKey.load(str(first.key), password)
    context = make_context(
        client, credential=Signer(first.chain[0], key, chain=first.chain[1:]), retry=Retry(attempts=6)
    )
    if due and jitter:
        time.sleep(random.uniform(0.0, jitter))
    with Journal(directory / _STORE / "journal") as journal:
        run = _Renewal(context, journal, newkey, password, command, keep, client.profile, _secret_names(client))
        for pair in pairs:
            about = None
            try:
                if pair in due:
                    about = _about(pair, "failed")
                    certificate = run.one(pair)["certificate"]
                    about |= {
                        "state": "renewed",
                        "serial_number": f"{certificate.serial_number:x}",
                        "not_after": certificate.not_valid_after_utc.isoformat(),
                    }
                run.run_hook(pair)
            except (CMPError, OSError, ValueError) as error:
                about = (about or _about(pair, "failed")) | {"state": "failed", "error": str(error)}
            if about is not None:
                told.append(about)
    context.close()
    return told


def _secret_names(client: ClientOptions) -> frozenset[str]:
    """Environment variables that hold secrets: a hook does not need them."""
    values = [getattr(client, each.name) for each in fields(client)]
    return frozenset(value[4:] for value in values if isinstance(value, str) and value.startswith("env:"))


def _about(pair: Pair, state: str) -> dict[str, Any]:
    certificate = x509.load_der_x509_certificate(pair.chain[0])
    return {
        "name": pair.name,
        "state": state,
        "certificate": str(pair.certificate),
        "key": str(pair.key),
        "subject": certificate.subject.rfc4514_string(),
        "serial_number": f"{certificate.serial_number:x}",
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "fingerprint": facts(certificate.public_bytes(Encoding.DER)).fingerprint.hex(),
    }
