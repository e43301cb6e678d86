"""``opensslcmp inspect`` and ``opensslcmp doctor``: what a message holds, and what this machine can do."""

from __future__ import annotations

import base64
import dataclasses
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from opensslcmp.asn1.inspect import describe, render
from opensslcmp.asn1.sequence import sequence_diagram
from opensslcmp.cli.exits import Exit, InputError
from opensslcmp.cli.talk import give, give_json, say
from opensslcmp.linked import features

__all__ = ["doctor", "inspect"]

_MAX_BYTES = 16 << 20

_EXTENSIONS = {
    "system": "system: compiled against the system's OpenSSL",
    "binary": "binary: opensslcmp-binary, with an OpenSSL of its own; OPENSSLCMP_IMPL=system takes the system's",
}
_NO_TOKENS = {
    "system": "no: the provider pkcs11 is not installed",
    "binary": "no: opensslcmp-binary has neither token nor FIPS providers; OPENSSLCMP_IMPL=system takes the system's OpenSSL",
}

AsJSON = Annotated[bool, typer.Option("--json", help="Write JSON for machines to stdout.")]


def inspect(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="A PKIMessage in DER, PEM, base64 or hex; - is stdin.")
    ],
    *,
    sequence: Annotated[
        bool, typer.Option("--sequence", help="A sequence diagram (Mermaid) of the messages of several files.")
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Show what a PKIMessage holds, and where it breaks a rule of RFC 9483.

    Nothing is verified: what a message says of itself is shown as it says it.
    """
    if sequence:
        give(sequence_diagram(map(_read_message, files)).rstrip())
        return
    if len(files) > 1:
        raise InputError("one message at a time is shown; of several, --sequence makes a diagram")
    description = describe(_read_message(files[0]))
    if as_json:
        give_json(description)
    else:
        give(render(description))
    if problem := description.get("problem"):
        say(f"error: {problem}")
        raise typer.Exit(Exit.BAD_MESSAGE)


def _read_message(name: str) -> bytes:
    try:
        if name == "-":
            content = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise InputError(f"{name}: longer than {_MAX_BYTES} bytes")
    if content[:1] == b"\x30":
        return content
    kinds = {kind.decode() for kind in re.findall(rb"-----BEGIN ([A-Z0-9 ]+)-----", content)}
    if other := sorted(kind for kind in kinds if "PKIMESSAGE" not in kind.replace(" ", "")):
        raise InputError(f"{name}: a {other[0].lower()} in PEM, and no PKIMessage")
    text = b"".join(re.sub(rb"-----[A-Z0-9 ]+-----", b"", content).split())
    for decode in (bytes.fromhex, lambda each: base64.b64decode(each, validate=True)):
        try:
            decoded = decode(text.decode("ascii"))
        except ValueError:
            continue
        if decoded[:1] == b"\x30":
            return decoded
    return content


def doctor(*, as_json: AsJSON = False) -> None:
    """Show which OpenSSL is linked, what its CMP can do, and which published holes it has.

    A hole that is "covered" cannot be reached through this package: messages are checked before OpenSSL sees them.
    """
    found = features()
    if as_json:
        give_json(dataclasses.asdict(found))
        return
    console = Console(file=sys.stdout, highlight=False)
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_row("opensslcmp", found.opensslcmp)
    facts.add_row("OpenSSL", f"{found.loaded} (compiled against {found.compiled}, feature level {found.level})")
    facts.add_row("extension", _EXTENSIONS[found.extension])
    facts.add_row("Python", f"{found.implementation} {found.python}")
    facts.add_row("providers", " ".join(found.providers) + (" (FIPS)" if found.fips else ""))
    facts.add_row("installed", " ".join(found.modules) or "no provider modules")
    facts.add_row("PKCS #11", "yes" if found.pkcs11 else _NO_TOKENS[found.extension])
    facts.add_row("cffi", found.cffi)
    facts.add_row("cryptography", found.cryptography)
    console.print(facts)
    console.print("\nWhat OpenSSL's own CMP has (what it lacks, opensslcmp does itself or says so):")
    has = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for name, present in found.has.items():
        has.add_row("yes" if present else "no", name.replace("_", " "))
    console.print(has)
    console.print(f"\nPublished vulnerabilities in CMP code ({found.note}):")
    holes = Table(box=None, padding=(0, 2, 0, 2))
    for title in ("", "affected", "covered", "what"):
        holes.add_column(title)
    for each in found.vulnerabilities:
        affected = {True: "yes", False: "no", None: "unknown"}[each.affected]
        holes.add_row(each.id, affected, "yes" if each.covered else "no", f"{each.text}; {each.how}")
    console.print(holes)
