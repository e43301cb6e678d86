"""``opensslcmp enroll-many``: one certificate for each line of an inventory, however often the command is interrupted.

1. The whole inventory is read and checked. When anything is wrong all of it is said, with line and column, and nothing is sent.
2. For each line: ``OUT/ID.key`` is made, unless it is there; then the request is written into the journal, and sent.
3. The certificate, confirmed, goes to ``OUT/ID.pem`` with its chain. Files appear whole, or not at all.

Run again, the command goes on: a line whose certificate is there is passed over, one that was begun is taken up again under its
transactionID, with the key that is there. So each line gets one certificate.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509

from opensslcmp.cli.exits import Exit, InputError, UsageError, exit_code
from opensslcmp.cli.files import pem, read_secret, write_durably
from opensslcmp.cli.options import ClientOptions, general_names, make_context
from opensslcmp.cli.talk import give_json, say
from opensslcmp.client.bulk import Order, Outcome
from opensslcmp.client.context import name_from
from opensslcmp.client.failover import Retry
from opensslcmp.client.journal import Journal, State
from opensslcmp.client.results import Issued
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import load_certificates
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import Credential, SharedSecret, Signer
from opensslcmp.errors import CMPError

__all__ = ["Line", "enroll_many", "read_inventory"]

_COLUMNS = ("id", "subject", "sans", "profile", "key", "days", "ref", "secret", "cert", "certkey")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,99}")
_SHOWN = 20
_MAX_BYTES = 256 << 20
_Check = Callable[[str, Callable[[], Any]], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of an inventory, checked.

    Attributes:
        number: where it stands, from 1.
        id: names its files, and its entry in the journal.
        key_kind: of the key to make.
        credential: who asks, when the line says so.
    """

    number: int
    id: str
    subject: str | None = None
    sans: tuple[x509.GeneralName, ...] = ()
    profile: str | None = None
    key_kind: str = "ec:P-256"
    days: int | None = None
    credential: Credential | None = field(default=None, repr=False)


def read_inventory(path: Path, *, key_kind: str = "ec:P-256") -> list[Line]:
    """The lines of an inventory.

    Args:
        path: CSV with a line of column names, or JSON lines when its name ends in ``.jsonl``.
        key_kind: of lines that name none.

    Raises:
        InputError: it cannot be used; the text tells every line and column, up to a number.
    """
    try:
        with path.open("rb") as file:
            private = not os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO)
            content = file.read(_MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8") from None
    if len(content) > _MAX_BYTES:
        raise InputError(f"{path}: longer than {_MAX_BYTES >> 20} MB")
    wrong: list[str] = []
    lines: list[Line] = []
    seen: dict[str, int] = {}
    rows = _json_rows(text, wrong) if path.suffix == ".jsonl" else _csv_rows(text, wrong)
    for number, row in rows:
        before = len(wrong)
        line = _checked(number, row, wrong, private=private, key_kind=key_kind)
        if line is None or len(wrong) > before:
            continue
        # Two names that differ in case are one file on some file systems.
        if (first := seen.setdefault(line.id.lower(), number)) != number:
            wrong.append(f"line {number}: id: {line.id} is that of line {first} too")
        lines.append(line)
    if wrong:
        more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        raise InputError("\n".join([f"{path}: nothing was sent", *wrong[:_SHOWN], *more]))
    if not lines:
        raise InputError(f"{path}: there are no lines")
    return lines


def _csv_rows(text: str, wrong: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] | None = None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            wrong.append(f"line {reader.line_num}: {error}")
            return
        number = reader.line_num
        if not cells or (len(cells) == 1 and (not cells[0].strip() or cells[0].startswith("#"))):
            continue
        if names is None:
            names = [cell.strip().lower() for cell in cells]
            unknown = [name for name in names if name not in _COLUMNS]
            if unknown or len(set(names)) != len(names) or "id" not in names:
                wrong.append(
                    f"line {number}: the columns are {', '.join(_COLUMNS)}, each once, id among them; "
                    f"here: {', '.join(names)}"
                )
                return
            continue
        if len(cells) != len(names):
            wrong.append(f"line {number}: {len(cells)} columns, not {len(names)}")
            continue
        yield number, dict(zip(names, cells, strict=True))


def _json_rows(text: str, wrong: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            wrong.append(f"line {number}: not JSON")
            continue
        if not isinstance(row, dict):
            wrong.append(f"line {number}: not an object")
            continue
        if unknown := sorted(row.keys() - set(_COLUMNS)):
            wrong.append(f"line {number}: {unknown[0]}: no such column; there are {', '.join(_COLUMNS)}")
            continue
        yield number, row


def _checked(number: int, row: dict[str, Any], wrong: list[str], *, private: bool, key_kind: str) -> Line | None:
    cells: dict[str, str] = {}
    for name, value in row.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, type(None))):
            wrong.append(f"line {number}: {name}: neither text nor a number")
            return None
        cells[name] = "" if value is None else str(value).strip()

    def check(name: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except (CMPError, InputError, UsageError, ValueError, OSError, TypeError) as error:
            text = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
            wrong.append(f"line {number}: {name}: {text or type(error).__name__}")
            return None

    def identity() -> str:
        if not _ID.fullmatch(cells.get("id", "")):
            raise ValueError("1 to 100 letters, digits and . _ @ : + -, a letter or digit first")
        return cells["id"]

    def days() -> int | None:
        if not cells.get("days"):
            return None
        if not cells["days"].isdigit() or not 0 < int(cells["days"]) < 100_000:
            raise ValueError("not a number of days")
        return int(cells["days"])

    subject = cells.get("subject") or None
    if subject is not None:
        check("subject", lambda: name_from(subject))
    names = check("sans", lambda: tuple(general_names(cells["sans"])[0])) if cells.get("sans") else ()
    if subject is None and not names:
        wrong.append(f"line {number}: subject: a certificate needs a subject, or sans")
    kind = cells.get("key") or key_kind
    check("key", lambda: _known_kind(kind))
    line_id, validity = check("id", identity), check("days", days)
    credential = _credential(cells, check, private=private)
    if line_id is None:
        return None
    return Line(
        number=number,
        id=line_id,
        subject=subject,
        sans=names or (),
        profile=cells.get("profile") or None,
        key_kind=kind,
        days=validity,
        credential=credential,
    )


_KINDS: set[str] = set()


def _known_kind(kind: str) -> None:
    """Raises ``ValueError`` unless such a key can be made. RSA is only looked at: it takes too long to try."""
    if kind in _KINDS:
        return
    if kind.lower().startswith("rsa"):
        bits = kind.partition(":")[2] or "3072"
        if not bits.isdigit() or not 2048 <= int(bits) <= 16384:
            raise ValueError("an RSA key has 2048 to 16384 bits")
    else:
        PrivateKey.generate(kind)
    _KINDS.add(kind)


def _credential(cells: dict[str, str], check: _Check, *, private: bool) -> Credential | None:
    reference, secret = cells.get("ref", ""), cells.get("secret", "")
    certificate, key = cells.get("cert", ""), cells.get("certkey", "")

    def by_secret() -> Credential:
        if not reference or not secret:
            raise ValueError("ref and secret are needed together")
        if secret.partition(":")[0] in {"env", "file"}:
            return SharedSecret(reference, read_secret(secret, "secret"))
        if not private:
            raise ValueError(
                "a secret may stand in an inventory of mode 0600 only; else name it by env:NAME or file:PATH"
            )
        return SharedSecret(reference, secret.removeprefix("pass:"))

    def by_certificate() -> Credential:
        if not certificate or not key:
            raise ValueError("cert and certkey are needed together")
        load_certificates(certificate)
        PrivateKey.load(key)
        return Signer(certificate, key)

    if (reference or secret) and (certificate or key):
        check("cert", _both)
        return None
    found: Credential | None = None
    if reference or secret:
        found = check("secret", by_secret)
    elif certificate or key:
        found = check("cert", by_certificate)
    return found


def _both() -> None:
    raise ValueError("either ref and secret, or cert and certkey")


@dataclass(slots=True)
class _Run:
    """What the command does with an inventory."""

    lines: list[Line]
    out: Path
    journal: Journal
    present: list[Line] = field(default_factory=list)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: Counter[str] = field(default_factory=Counter)
    first_error: Exception | None = None
    issued: int = 0

    def orders(self) -> Iterator[Order]:
        """One for each line whose certificate is not there."""
        for line in self.lines:
            entry = self.journal.find(line.id)
            if entry is not None and entry.state is State.DONE and (self.out / f"{line.id}.pem").exists():
                self.present.append(line)
                self.told[line.id] = {"id": line.id, "line": line.number, "state": "present"}
                continue
            yield Order(
                subject=line.subject,
                key=_KeyFile(self.out / f"{line.id}.key", line.key_kind),
                subject_alternative_names=line.sans,
                profile=line.profile,
                validity=line.days,
                credential=line.credential,
                label=line.id,
                tag=line,
            )

    def strangers(self) -> list[str]:
        """Certificates in the directory that the journal does not know."""
        found = []
        for line in self.lines:
            if (self.out / f"{line.id}.pem").exists() and self.journal.find(line.id) is None:
                found.append(f"line {line.number}: {self.out / line.id}.pem is there, and not of this journal")
        return found

    def take(self, outcome: Outcome) -> None:
        """Store what came."""
        assert outcome.order is not None
        line: Line = outcome.order.tag
        about: dict[str, Any] = {"id": line.id, "line": line.number}
        error = outcome.error
        if isinstance(outcome.result, Issued):
            certificate = outcome.result.certificate
            try:
                write_durably(self.out / f"{line.id}.pem", pem([certificate, *outcome.result.chain]))
            except OSError as failed:
                error = failed
            else:
                self.issued += 1
                about |= {
                    "state": "issued",
                    "serial_number": f"{certificate.serial_number:x}",
                    "not_after": certificate.not_valid_after_utc.isoformat(),
                    "certificate": str(self.out / f"{line.id}.pem"),
                    "key": str(self.out / f"{line.id}.key"),
                }
        if error is not None:
            self.first_error = self.first_error or error
            self.problems[exit_code(error).name.lower()] += 1
            about |= {"state": "failed", "kind": exit_code(error).name.lower(), "error": str(error)}
            say(f"line {line.number}: {line.id}: {error}")
        self.told[line.id] = about

    @property
    def done(self) -> int:
        return len(self.told)

    def summary(self, seconds: float) -> dict[str, Any]:
        failed = sum(self.problems.values())
        return {
            "lines": len(self.lines),
            "issued": self.issued,
            "present": len(self.present),
            "failed": failed,
            "missing": len(self.lines) - self.issued - len(self.present) - failed,
            "seconds": round(seconds, 3),
            "rate": round(self.issued / seconds, 1) if seconds else 0.0,
        }

    def report(self, seconds: float) -> dict[str, Any]:
        lines = [
            self.told.get(line.id, {"id": line.id, "line": line.number, "state": "missing"}) for line in self.lines
        ]
        return self.summary(seconds) | {"results": lines}


@dataclass(frozen=True, slots=True)
class _KeyFile:
    """Where the private key of a line is; called by who works on the line, it makes the key unless it is there."""

    path: Path
    kind: str

    def __call__(self) -> str:
        if not self.path.exists():
            write_durably(self.path, PrivateKey.generate(self.kind).to_pem(), secret=True)
        return str(self.path)


class _Progress:
    """How far it is, on stderr: a bar on a terminal, else a line every few seconds."""

    def __init__(self, total: int, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._clock = clock
        self._begun = self._told = clock()
        self._bar: Any = None
        self._quiet = quiet
        self._task: Any = None

    def __enter__(self) -> _Progress:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("enrolling", total=self._total, rate="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int, worked: int, failed: int) -> None:
        """``done`` of all lines, ``worked`` of them in this run."""
        now = self._clock()
        rate = worked / max(now - self._begun, 1e-9)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rate=f"{rate:.0f}/s, {failed} failed")
        elif not self._quiet and now - self._told >= 5.0:
            self._told = now
            left = timedelta(seconds=round((self._total - done) / max(rate, 1e-9)))
            say(f"{done} of {self._total}, {failed} failed, {rate:.1f}/s, {left} left")


def _option(name: str, help_text: str, metavar: str | None = None) -> Any:
    return typer.Option(f"--{name}", help=help_text, rich_help_panel="Inventory", metavar=metavar)


def enroll_many(
    inventory: Annotated[Path, typer.Argument(help="CSV with column names, or JSON lines (.jsonl)", metavar="FILE")],
    client: ClientOptions,
    *,
    out: Annotated[Path, _option("out", "Directory for ID.pem and ID.key; made when it is missing", "DIR")],
    concurrency: Annotated[int, _option("concurrency", "How many at one time")] = 16,
    journal: Annotated[
        Path | None, _option("journal", "What was begun; by default DIR/enroll.journal", metavar="FILE")
    ] = None,
    newkey: Annotated[str, _option("newkey", "Kind of key of lines that name none")] = "ec:P-256",
    report: Annotated[Path | None, _option("report", "What became of each line, as JSON", metavar="FILE")] = None,
    implicit_confirm: Annotated[bool, _option("implicit_confirm", "Ask the server to waive the confirmation")] = False,
    dry_run: Annotated[bool, _option("dry-run", "Check the inventory and the options; send and write nothing")] = False,
) -> None:
    """Get a certificate for each line of an inventory.

    Columns: id (names the files), subject, sans, profile, key (ec:P-256, rsa:3072...), days, and who asks when it is not
    --ref or --cert: ref and secret (env:NAME or file:PATH; the secret itself in a file of mode 0600 only), or cert and certkey.
    Interrupted or killed, it goes on when it is run again: each line gets one certificate.
    """
    if concurrency < 1:
        raise UsageError("--concurrency is at least 1")
    _checked_kind(newkey)
    lines = read_inventory(inventory, key_kind=newkey)
    default = next((line.credential for line in lines if line.credential is not None), None)
    own = client.secret is not None or client.cert is not None
    if not own and any(line.credential is None for line in lines):
        number = next(line.number for line in lines if line.credential is None)
        raise UsageError(f"line {number} says not who asks; give --ref and --secret, or --cert and --key")
    context = make_context(
        client if client.profile is None else replace(client, profile=None),
        implicit_confirm=implicit_confirm,
        credential=None if own else default,
        retry=Retry(attempts=6),
        max_connections=concurrency,
    )
    if client.profile is not None:
        lines = [replace(line, profile=line.profile or client.profile) for line in lines]
    if dry_run:
        kinds = Counter(line.key_kind for line in lines)
        if client.as_json:
            give_json({"lines": len(lines), "keys": dict(kinds)})
        say(f"{len(lines)} lines are well; keys: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}")
        return
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with Journal(journal or out / "enroll.journal") as written:
        run = _Run(lines, out, written)
        if strangers := run.strangers():
            raise InputError("\n".join(["nothing was sent", *strangers[:_SHOWN]]))
        session = Session(context, journal=written)
        try:
            with (
                _Progress(len(lines), quiet=False) as progress,
                closing(session.enroll_many(run.orders(), concurrency=concurrency)) as outcomes,  # type: ignore[type-var]
            ):
                for outcome in outcomes:
                    run.take(outcome)
                    progress.show(run.done, run.done - len(run.present), sum(run.problems.values()))
        finally:
            context.close()
            _end(run, time.monotonic() - begun, report, as_json=client.as_json)
    if run.problems:
        raise typer.Exit(Exit.SOME_FAILED)


def _checked_kind(kind: str) -> None:
    try:
        _known_kind(kind)
    except ValueError as error:
        raise UsageError(f"--newkey: {error}") from None


def _end(run: _Run, seconds: float, report: Path | None, *, as_json: bool) -> None:
    summary = run.summary(seconds)
    for name in ("lines", "issued", "present", "failed", "missing"):
        say(f"{name:>8}  {summary[name]}")
    for kind, count in run.problems.most_common():
        say(f"{'':8}  {count} {kind}")
    say(f"{'time':>8}  {seconds:.1f} s, {summary['rate']}/s")
    if report is not None:
        content = json.dumps(run.report(seconds), indent=1, ensure_ascii=False).encode() + b"\n"
        write_durably(report, content)
    if as_json:
        give_json(run.report(seconds))
