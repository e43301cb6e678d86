"""``opensslcmp ca search``, ``secret``, ``rollover``, ``backup`` and ``restore``; and what the audit log says of an operator.

They work on the CA's directory, and on the store that its settings name, whether a server runs on it or not.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cryptography import x509

from opensslcmp.cli.ca import AsJSON, Directory, open_ca, open_settings
from opensslcmp.cli.exits import InputError, UsageError
from opensslcmp.cli.files import read_secret
from opensslcmp.cli.talk import give, give_json, say
from opensslcmp.enums import RevocationReason
from opensslcmp.errors import Rejected

if TYPE_CHECKING:
    from opensslcmp.server.ca import CA
    from opensslcmp.server.store import CertificateRecord, CertificateSearch

__all__ = [
    "backup",
    "record_act",
    "restore",
    "rollover",
    "search",
    "secret_list",
    "secret_remove",
    "secret_rotate",
]

Reference = Annotated[str, typer.Argument(metavar="REFERENCE", help="What the client sends as --ref.")]
_PAGE = 500


def record_act(directory: Path, action: str, **details: str | list[str] | None) -> None:
    """Add a line about what was done to the audit log, where that is a file; a warning when it cannot be written."""
    from opensslcmp.server.audit import operator_line

    audit = open_settings(directory).audit
    if audit.destination != "file":
        return
    user = os.environ.get("SUDO_USER")
    if user is None:
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            user = str(os.getuid())
    try:
        sink = audit.sink(directory)
        if sink is not None:
            sink.write([operator_line(action, user, **details)])
            sink.close()
    except (OSError, ValueError) as error:
        say(f"warning: the audit log could not be written: {error}")


# -- search --------------------------------------------------------------------------------------------------------


def search(
    directory: Directory,
    *,
    subject: Annotated[str | None, typer.Option("--subject", help="Has this in its subject", metavar="TEXT")] = None,
    san: Annotated[str | None, typer.Option("--san", help="Has this in a subjectAltName", metavar="TEXT")] = None,
    serial: Annotated[
        str | None, typer.Option("--serial", help="Serial number begins with these hexadecimal digits", metavar="HEX")
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="unconfirmed, valid, updating, updated or revoked; may be repeated"),
    ] = None,
    expires_before: Annotated[
        str | None,
        typer.Option("--expires_before", help="Ends before this day, or in so many days", metavar="DATE|DAYS"),
    ] = None,
    issued_after: Annotated[
        str | None, typer.Option("--issued_after", help="Issued since this day", metavar="DATE")
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option("--identity", help='Issued to this credential, as "ca show" tells it', metavar="mac:REF|cert:HEX"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many", min=1)] = 100,
    after: Annotated[str | None, typer.Option("--after", help="Go on after this certificate", metavar="SERIAL")] = None,
    revoke: Annotated[
        str | None, typer.Option("--revoke", help="Revoke what was found, after asking", metavar="REASON")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
    as_json: AsJSON = False,
) -> None:
    """Find certificates, oldest first, and revoke them if wanted.

    All that is given must fit. Texts are compared without case. When there may be more, the last line says how to go on.

    With --revoke what was found is shown, and revoked once somebody says yes; --yes is for scripts. Certificates that are
    revoked already are not looked for then.
    """
    from opensslcmp.server.store import CertificateState

    reason = _reason(revoke)
    wanted = _wanted(serial, state, expires_before, issued_after, identity)
    if reason is not None and not state:
        wanted = _replace(wanted, states=frozenset(CertificateState) - {CertificateState.REVOKED})
    with _opened(directory) as ca:
        found = _found(ca, wanted, subject, san, limit + 1, after)
        more, found = len(found) > limit, found[:limit]
        told = [_told(ca, each) for each in found]
        if reason is None:
            if as_json:
                give_json({"certificates": told, "after": told[-1]["serial"] if more else None})
                return
            _list(told)
            say(f"{len(told)} certificates" + (f"; there are more: --after {told[-1]['serial']}" if more else ""))
            return
        if not found:
            say("nothing was found, and nothing revoked")
            return
        if not as_json:
            _list(told)
        if more:
            raise UsageError(f"more than {limit} were found, and none revoked: --limit says how many may be")
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError("--revoke asks, which needs a terminal; --yes goes without asking")
            if not typer.confirm(f"Revoke these {len(found)} certificates ({reason.text})?", err=True):
                say("nothing was revoked")
                return
        done, failed = [], {}
        for each in found:
            name = f"{each.serial_number:x}"
            try:
                ca.change_status(each.serial_number, reason)
                done.append(name)
            except Rejected as error:
                failed[name] = "; ".join(error.text)
    record_act(directory, "revoke", serials=done, reason=reason.text)
    if as_json:
        give_json({"revoked": done, "failed": failed})
    else:
        for name, text in failed.items():
            say(f"{name}: {text}")
        say(f"{len(done)} certificates were revoked")


def _list(told: list[dict[str, Any]]) -> None:
    for each in told:
        give(f"{each['serial']}  {each['state']}  {each['not_after']}  {each['subject']}\n")


def _reason(text: str | None) -> RevocationReason | None:
    if text is None:
        return None
    reasons = {each.text.lower(): each for each in RevocationReason if each is not RevocationReason.REMOVE_FROM_CRL}
    if text.lower() not in reasons:
        raise UsageError(f"--revoke is one of {', '.join(each.text for each in reasons.values())}")
    return reasons[text.lower()]


def _wanted(
    serial: str | None,
    state: list[str] | None,
    expires_before: str | None,
    issued_after: str | None,
    identity: str | None,
) -> CertificateSearch:
    from opensslcmp.server.store import CertificateSearch, CertificateState

    fields: dict[str, Any] = {}
    if serial is not None:
        digits = serial.replace(":", "").lower().lstrip("0")
        if not re.fullmatch(r"[0-9a-f]*", digits):
            raise UsageError("--serial has hexadecimal digits")
        fields["serial"] = digits
    if state:
        states = {each.name.lower(): each for each in CertificateState}
        if unknown := [each for each in state if each.lower() not in states]:
            raise UsageError(f"--state is one of {', '.join(states)}, not {unknown[0]}")
        fields["states"] = frozenset(states[each.lower()] for each in state)
    if expires_before is not None:
        fields["expires_before"] = _moment(expires_before, "--expires_before", days=True)
    if issued_after is not None:
        fields["issued_after"] = _moment(issued_after, "--issued_after")
    if identity is not None:
        kind, _, rest = identity.partition(":")
        try:
            fields["identity"] = b"mac:" + rest.encode() if kind == "mac" else b"cert:" + bytes.fromhex(rest)
        except ValueError:
            kind = ""
        if kind not in {"mac", "cert"} or not rest:
            raise UsageError("--identity is mac:REFERENCE or cert:SHA-256 of a certificate")
    return CertificateSearch(**fields)


def _replace(wanted: CertificateSearch, **values: Any) -> CertificateSearch:
    from dataclasses import replace

    return replace(wanted, **values)


def _moment(text: str, option: str, *, days: bool = False) -> float:
    if days and text.isdigit():
        return datetime.now(UTC).timestamp() + int(text) * 86400.0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} is a day such as 2026-12-31{', or a number of days' if days else ''}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _found(
    ca: CA, wanted: CertificateSearch, subject: str | None, san: str | None, most: int, after: str | None
) -> list[CertificateRecord]:
    at: tuple[float, bytes] | None = None
    if after is not None:
        try:
            last = ca.find(int(after, 16))
        except ValueError:
            last = None
        if last is None:
            raise InputError(f"there is no certificate {after} of this CA")
        at = (last.issued_at, last.key)
    found: list[CertificateRecord] = []
    while len(found) < most:
        page = ca.store.search(wanted, _PAGE, at)
        found += [each for each in page if _fits(each, subject, san)]
        if len(page) < _PAGE:
            break
        at = (page[-1].issued_at, page[-1].key)
    return found[:most]


def _fits(record: CertificateRecord, subject: str | None, san: str | None) -> bool:
    if subject is None and san is None:
        return True
    certificate = x509.load_der_x509_certificate(record.certificate)
    if subject is not None and subject.lower() not in certificate.subject.rfc4514_string().lower():
        return False
    return san is None or any(san.lower() in name.lower() for name in _names(certificate))


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [each.value.rfc4514_string() if isinstance(each, x509.DirectoryName) else str(each.value) for each in names]


def _told(ca: CA, record: CertificateRecord) -> dict[str, Any]:
    from opensslcmp.cli.authority import describe_certificate

    return describe_certificate(ca, record) | {"names": _names(x509.load_der_x509_certificate(record.certificate))}


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[CA]:
    ca = open_ca(directory)
    try:
        yield ca
    finally:
        ca.close()


# -- secrets -------------------------------------------------------------------------------------------------------


def secret_list(directory: Directory, *, as_json: AsJSON = False) -> None:
    """List the references of all secrets, without the secrets.

    An old secret that is accepted beside the new one is told of until its time is up.
    """
    now = datetime.now(UTC).timestamp()
    with _opened(directory) as ca:
        told = [
            {
                "reference": each.reference.decode("utf-8", "backslashreplace"),
                "created_at": _day(each.created_at),
                "single_use": each.single_use,
                "used_at": None if each.used_at is None else _day(each.used_at),
                "old_until": _day(each.previous_until) if each.previous_until > now else None,
            }
            for each in ca.list_secrets()
        ]
    if as_json:
        give_json(told)
        return
    for entry in told:
        words = [str(entry["reference"]), f"since {entry['created_at']}"]
        if entry["single_use"]:
            words.append(f"used {entry['used_at']}" if entry["used_at"] else "for one certificate")
        if entry["old_until"]:
            words.append(f"the old one until {entry['old_until']}")
        give("  ".join(words) + "\n")
    say(f"{len(told)} secrets")


def secret_rotate(
    directory: Directory,
    reference: Reference,
    *,
    overlap: Annotated[
        str, typer.Option("--overlap", help="How long the old one is accepted too: 90s, 30m, 12h, 7d", metavar="TIME")
    ] = "0s",
    source: Annotated[
        str | None,
        typer.Option("--secret", help="env:NAME, file:PATH, fd:NUMBER or stdin; else one is made", metavar="SOURCE"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the new secret to this new file (0600) instead of stdout")
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Put another secret in the place of one.

    A secret that is made is printed to stdout, once, or written to a file. A running server accepts it at once, and with
    --overlap the old one too for that long.
    """
    from opensslcmp.server.files import write_new

    found = re.fullmatch(r"(\d+)([smhd])", overlap)
    if found is None:
        raise UsageError("--overlap is a time such as 90s, 30m, 12h or 7d")
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]
    given = None if source is None else read_secret(source, "--secret")
    if out is not None and out.exists():
        raise InputError(f"{out} is there already")
    with _opened(directory) as ca:
        value = ca.secrets.rotate(reference, given, overlap_seconds=seconds) if out is None else None
        if out is not None:
            # On the disk before it is needed: a secret that nobody has would lock the client out.
            new = given if given is not None else ca.secrets.generate()
            write_new(out, new + b"\n")
            try:
                ca.secrets.rotate(reference, new, overlap_seconds=seconds)
            except BaseException:
                out.unlink()
                raise
    record_act(directory, "secret rotate", reference=reference, overlap=overlap)
    if as_json:
        give_json(
            {"reference": reference} | ({"secret": value.decode()} if value is not None and given is None else {})
        )
    elif value is not None and given is None:
        give(value.decode() + "\n")
        say(f"the new secret of {reference} stands above; it is not shown again")
    else:
        say(f"the secret of {reference} is another one now" + (f"; it is in {out}" if out is not None else ""))


def secret_remove(directory: Directory, reference: Reference, *, as_json: AsJSON = False) -> None:
    """Forget the secret of a reference, and the old one of a rotation with it."""
    with _opened(directory) as ca:
        if not ca.remove_secret(reference):
            raise InputError(f"there is no secret under {reference}")
    record_act(directory, "secret remove", reference=reference)
    if as_json:
        give_json({"reference": reference})
    else:
        say(f"the secret of {reference} is forgotten")


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- the key, and the whole ----------------------------------------------------------------------------------------


def rollover(
    directory: Directory,
    *,
    key: Annotated[
        str | None, typer.Option("--key", help="Kind of the new key; that of the present one by default")
    ] = None,
    days: Annotated[float, typer.Option("--days", help="Validity of the new root certificate", min=1)] = 3650,
    as_json: AsJSON = False,
) -> None:
    """Give a root CA a new key.

    Servers use it once they are told to read their files again (SIGHUP), or are started again. What the old key issued stays
    valid; who trusts the old root is led to the new one. All of it appears at once, in DIR/generation-N.
    """
    from cryptography.hazmat.primitives.hashes import SHA256

    from opensslcmp.server.generations import roll_over

    open_ca(directory).close()
    try:
        made = roll_over(directory, key, days)
    except ValueError as error:
        raise InputError(str(error)) from None
    certificate = x509.load_der_x509_certificate(made.certificate)
    fingerprint = certificate.fingerprint(SHA256()).hex()
    path = directory / f"generation-{made.number}" / "ca.pem"
    record_act(directory, "rollover", generation=str(made.number), sha256=fingerprint)
    if as_json:
        told = {"generation": made.number, "certificate": str(path), "sha256": fingerprint}
        give_json(told | {"not_after": certificate.not_valid_after_utc.isoformat()})
        return
    say(f"the new root certificate: {path}")
    say(f"SHA-256 of the certificate: {fingerprint}")
    say("servers use the new key after SIGHUP or a restart")


def backup(
    directory: Directory,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; not there yet.")],
    *,
    passphrase: Annotated[
        str | None,
        typer.Option(
            "--passphrase", help="env:NAME, file:PATH, fd:NUMBER, stdin or prompt: seals the keys", metavar="SOURCE"
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Write a CA to one file, while servers run on it.

    Without --passphrase there are no keys in it: ca.key and vault.key must be kept elsewhere. A database in PostgreSQL is not
    in it: pg_dump writes that.
    """
    from opensslcmp.server.backup import BackupError, make_backup

    secret = None if passphrase is None else _passphrase(passphrase, twice=True)
    try:
        made = make_backup(directory, file, secret)
    except (BackupError, FileExistsError, FileNotFoundError) as error:
        raise InputError(str(error)) from None
    record_act(directory, "backup", file=str(file), keys="sealed" if made.keys else "left out")
    if as_json:
        give_json({"file": str(file), "keys": made.keys, "database": made.database, "files": list(made.files)})
        return
    say(f"{file}: {len(made.files)} files")
    if not made.keys:
        say("the keys are not in it (--passphrase): keep ca.key and vault.key elsewhere")
    if not made.database:
        say("the database is in PostgreSQL, and not in it: pg_dump --format=custom --file=FILE with the URL of [store]")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What ca backup wrote.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; not there yet, or empty.")],
    *,
    passphrase: Annotated[
        str | None,
        typer.Option(
            "--passphrase", help="env:NAME, file:PATH, fd:NUMBER, stdin or prompt: opens the keys", metavar="SOURCE"
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Make a CA's directory from a backup, checked first.

    Nothing is overwritten. What was issued or revoked since the backup is not known to what is restored; the audit log tells
    what that was.
    """
    from opensslcmp.server.backup import BackupError, restore_backup

    secret = None if passphrase is None else _passphrase(passphrase)
    try:
        found = restore_backup(file, directory, secret)
    except (BackupError, FileExistsError) as error:
        raise InputError(str(error)) from None
    made = _day(found.made_at)
    if as_json:
        keys = found.keys and secret is not None
        give_json({"directory": str(directory), "made_at": made, "keys": keys, "database": found.database})
        return
    say(f"{directory}: the CA as it was at {made}")
    if not (found.keys and secret is not None):
        say("the keys are not there: put ca.key and vault.key into it, with mode 0600")
    if not found.database:
        say("the database was in PostgreSQL: pg_restore brings it back")


def _passphrase(source: str, *, twice: bool = False) -> bytes:
    if source == "prompt":
        text: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=twice, err=True)
        return text.encode()
    if source != "stdin" and source.partition(":")[0] not in {"env", "file", "fd"}:
        raise UsageError(
            "--passphrase is env:NAME, file:PATH, fd:NUMBER, stdin or prompt, and never the passphrase itself"
        )
    return read_secret(source, "--passphrase")
