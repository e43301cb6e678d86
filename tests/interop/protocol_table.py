"""Writes docs/protocol.md: ``python -m tests.interop.protocol_table``. ``test_protocol_table`` fails when that is to be done.

Each row is tried, between a Session and a Responder, with the OpenSSL that is loaded; the column of another one stays as it is
until the same is run there. To add a row, write an attempt: it returns when the thing works, and lets ``Unsupported`` through.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opensslcmp import (
    Context,
    KemCredential,
    MacParameters,
    PrivateKey,
    ProtectionKind,
    Rejected,
    Session,
    SharedSecret,
    Signer,
    Unsupported,
)
from opensslcmp._native import lib
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.context.protection import protector_for
from opensslcmp.enums import BodyType
from opensslcmp.server import Responder
from opensslcmp.server.authority import Pending as Later
from opensslcmp.transport import InProcess
from tests.server.device import Device, certificate_of, crmf, csr
from tests.server.test_recovery import escrow
from tests.server.world import World, fresh_world

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "protocol.md"
VERSIONS = ("3.0", "3.5")
LOADED = "3.5" if lib.OPENSSLCMP_LEVEL >= 35 else "3.0"

SECRET = SharedSecret("device", "secret")
PSS = ("rsa:2048", "PSS", True)


@dataclasses.dataclass(frozen=True)
class Row:
    """One thing, and how to try it."""

    section: str
    what: str
    source: str
    attempt: Callable[[], None]


ROWS: list[Row] = []


def row(section: str, what: str, source: str) -> Callable[[Callable[[], None]], None]:
    def add(attempt: Callable[[], None]) -> None:
        ROWS.append(Row(section, what, source, attempt))

    return add


@functools.cache
def world() -> World:
    made = fresh_world()
    made.device()
    return made


@functools.cache
def key(kind: str) -> PrivateKey:
    return PrivateKey.generate(kind)


def session(credential: Any = SECRET, responder: Any = None, **options: Any) -> Session:
    context = Context(credential=credential, trusted=[world().ca.certificate], **options)
    return Session(context, transport=InProcess(responder or world().responder))


def responder(signer: Any, **options: Any) -> Responder:
    here = world()
    trust = Trust([here.ca.certificate])
    return Responder(
        here.ca, here.store, signer, secrets=here.ca.secrets.find, trust=trust, clock=here.clock, **options
    )


@functools.cache
def signer() -> Signer:
    return Signer(world().device().enroll(key("ec:P-256"), "CN=signer"), key("ec:P-256"))


# -- messages ----------------------------------------------------------------------------------------------------------


@row("Messages", "ir, ip, certConf, pkiConf", "RFC 9810, 5.3.1, 5.3.2, 5.3.17, 5.3.18")
def _() -> None:
    assert session().enroll("CN=new", generate="ec:P-256").certificate


@row("Messages", "cr, cp", "RFC 9810, 5.3.3, 5.3.4")
def _() -> None:
    assert session().enroll("CN=new", generate="ec:P-256", kind="cr").certificate


@row("Messages", "p10cr", "RFC 9810, 5.3.3")
def _() -> None:
    assert session().enroll_csr(csr(key("ec:P-256"), "CN=new")).certificate


@row("Messages", "kur, kup", "RFC 9810, 5.3.5, 5.3.6")
def _() -> None:
    own = PrivateKey.generate("ec:P-256")
    certificate = world().device().enroll(own, "CN=old")
    assert session(Signer(certificate, own)).update(generate="ec:P-256").certificate


@row("Messages", "krr, krp", "RFC 9810, 5.3.7, 5.3.8")
def _() -> None:
    archiving = world().again(escrow=escrow())
    own = PrivateKey.generate("ec:P-256")
    session(responder=archiving).enroll("CN=archived", own, archive=escrow().certificate)
    assert session(responder=archiving).recover_keys(subject="CN=archived")[0].key.public_key_der == own.public_key_der


@row("Messages", "rr, rp", "RFC 9810, 5.3.9, 5.3.10")
def _() -> None:
    own = PrivateKey.generate("ec:P-256")
    session(Signer(world().device().enroll(own, "CN=old"), own)).revoke()


@row("Messages", "genm, genp", "RFC 9810, 5.3.19, 5.3.20")
def _() -> None:
    assert session().ca_certificates()


@row("Messages", "pollReq, pollRep", "RFC 9810, 5.3.22")
def _() -> None:
    here = fresh_world()
    here.device()
    issue, asked = here.ca.issue, []

    def later(request: Any) -> Any:
        asked.append(request)
        return Later(check_after_seconds=1) if len(asked) == 1 else issue(request)

    here.ca.issue = later  # type: ignore[method-assign]
    client = Session(Context(credential=SECRET), transport=InProcess(here.responder))
    pending: Any = client.enroll("CN=new", generate="ec:P-256", wait=False)
    assert pending.check().certificate


@row("Messages", "popdecc, popdecr", "RFC 9810, 5.2.8.3.3")
def _() -> None:
    assert session().enroll("CN=new", key("ec:P-256"), proof="challenge").certificate


@row("Messages", "error", "RFC 9810, 5.3.21")
def _() -> None:
    try:
        session().request_info("1.2.3.4")  # which nobody knows
    except Rejected:
        return
    raise AssertionError("not refused")


# -- proofs of possession ----------------------------------------------------------------------------------------------


def proof(what: str, kind: str, how: Any) -> None:
    @row("Proofs of possession", f"{what}: {kind}", "RFC 9810, 5.2.8")
    def _() -> None:
        assert session().enroll("CN=new", key(kind), proof=how).certificate


SIGNING = ("rsa:2048", "ec:P-256", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87", "slh-dsa-sha2-128f")
DECRYPTING = ("rsa:2048", "ec:P-256", "x25519", "x448", "ml-kem-512", "ml-kem-768", "ml-kem-1024")
for _kind in SIGNING:
    proof("signature", _kind, "signature")
for _kind in DECRYPTING:
    proof("encrypted certificate (`indirect`)", _kind, "indirect")
for _kind in DECRYPTING:
    proof("challenge", _kind, "challenge")


@row("Proofs of possession", "raVerified, by an RA", "RFC 9810, 5.2.8.1")
def _() -> None:
    listed = responder(world().ca.signer, registration_authorities=[facts(signer().certificate).fingerprint])
    assert session(signer(), listed).enroll("CN=new", generate="x25519", proof="raVerified").certificate


# -- protection --------------------------------------------------------------------------------------------------------


def mac(what: str, source: str, **parameters: Any) -> None:
    @row("Protection", what, source)
    def _() -> None:
        secret = SharedSecret("device", "secret", parameters=MacParameters(**parameters))
        issued = session(secret).enroll("CN=new", generate="ec:P-256")
        assert issued.protection.kind is ProtectionKind.MAC


for _mac in ("hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha3-256"):
    mac(f"PasswordBasedMac, {_mac}", "RFC 9810, 5.1.3.1", mac=_mac)
for _mac in ("hmac-sha256", "hmac-sha384", "hmac-sha512"):
    mac(f"PBMAC1, {_mac}", "RFC 9481, 6.1.2", mac=_mac, scheme="pbmac1", iterations=500)


def signature(kind: str, source: str, digest: str | None = None, *, pss: bool = False) -> None:
    what = " ".join((kind, *(["PSS"] if pss else []), *([digest] if digest else [])))

    @row("Protection", f"signature: {what}", source)
    def _() -> None:
        """Both ends sign with it."""
        own = Signer(world().device().enroll(key(kind), f"CN={kind}"), key(kind), digest=digest, pss=pss)
        issued = session(own, responder(own)).enroll("CN=new", generate="ec:P-256")
        assert issued.protection.kind is ProtectionKind.SIGNATURE
        wanted = "" if digest is None else digest.replace("-", "").lower()
        assert pss or wanted in issued.protection.algorithm.replace("-", "").lower(), issued.protection


for _digest in ("SHA224", "SHA256", "SHA384", "SHA512", "SHA3-256", "SHA3-384", "SHA3-512"):
    signature("rsa:2048", "RFC 9481, 3.1" if "3-" not in _digest else "RFC 9688, 3", _digest)
for _digest in ("SHA256", "SHA384", "SHA512", "SHA3-256", "SHAKE128", "SHAKE256"):
    signature("rsa:2048", "RFC 9481, 3.1" if "SHAKE" not in _digest else "RFC 8702, 3.2.1", _digest, pss=True)
signature("rsa-pss:2048", "RFC 4055, 3.1")
for _digest in ("SHA224", "SHA256", "SHA384", "SHA512", "SHA3-256", "SHA3-384", "SHA3-512", "SHAKE128", "SHAKE256"):
    _of = "RFC 9481, 3.2" if "3-" not in _digest else "RFC 9688, 3"
    signature("ec:P-256", "RFC 8702, 3.2.2" if "SHAKE" in _digest else _of, _digest)
for _curve in (
    "P-224",
    "P-384",
    "P-521",
    *(f"brainpoolP{bits}{form}1" for bits in (224, 256, 320, 384, 512) for form in "rt"),
):
    signature(f"ec:{_curve}", "RFC 9481, 3.2")
for _kind in ("ed25519", "ed448"):
    signature(_kind, "RFC 9481, 3.3")
for _kind in ("ml-dsa-44", "ml-dsa-65", "ml-dsa-87"):
    signature(_kind, "RFC 9881")
signature("slh-dsa-sha2-128f", "RFC 9909")
signature("slh-dsa-shake-128f", "RFC 9909")


@functools.cache
def kem(kind: str, name: str, **choice: str) -> KemCredential:
    listed = responder(world().ca.signer, registration_authorities=[facts(signer().certificate).fingerprint])
    desk = Device(listed.handle, protector_for(signer()), world().clock)
    from tests.interop.test_kem_protection import USAGE

    certificate = certificate_of(
        desk.ask(BodyType.CR, crmf(key(kind), f"CN={name}", popo="raVerified", extensions=[USAGE]))
    )
    desk.confirm(certificate)
    return KemCredential(certificate, key(kind), **choice)


def kem_row(kind: str) -> None:
    @row("Protection", f"KEM-based MAC: {kind}, client", "RFC 9810, 5.1.3.4")
    def _() -> None:
        assert session(kem(kind, "client")).enroll("CN=new", generate="ec:P-256").certificate

    @row("Protection", f"KEM-based MAC: {kind}, server", "RFC 9810, 5.1.3.4")
    def _() -> None:
        issued = session(signer(), responder(kem(kind, "server"))).enroll("CN=new", generate="ec:P-256")
        assert issued.protection.kind is ProtectionKind.KEM


for _kind in ("rsa:2048", "ml-kem-512", "ml-kem-768", "ml-kem-1024"):
    kem_row(_kind)


# -- the document ------------------------------------------------------------------------------------------------------


def outcome(each: Row) -> str:
    """What a row says for the OpenSSL that is loaded."""
    try:
        each.attempt()
    except Unsupported as error:
        return f'`Unsupported(since="{error.since}")`'
    return "works"


def written() -> dict[tuple[str, str], dict[str, str]]:
    """What the document says, by section and thing."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    section = ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if DOCUMENT.exists() else ():
        if line.startswith("## "):
            section = line[3:]
        elif match := re.fullmatch(r"\| (.*?) \| (.*?) \| (.*?) \| (.*?) \|", line):
            what, *columns = match.group(1), match.group(2), match.group(3)
            found[section, what] = dict(zip(VERSIONS, columns, strict=True))
    return found


def table() -> str:
    """All of docs/protocol.md."""
    before = written()
    lines = [
        "# What works, by version of OpenSSL",
        "",
        "Each row was tried by the tests, from a `Session` to a `Responder` and back, with each version: they write this page",
        "(`python -m tests.interop.protocol_table`) and fail when it is not so. `Unsupported(since=...)` is what the package",
        "raises where the linked OpenSSL lacks something.",
    ]
    section = ""
    for each in ROWS:
        if each.section != section:
            section = each.section
            lines += ["", f"## {section}", "", f"| what | {' | '.join(VERSIONS)} | source |", "|---|---|---|---|"]
        columns = dict.fromkeys(VERSIONS, "not tried") | before.get((section, each.what), {})
        columns[LOADED] = outcome(each)
        lines.append(f"| {each.what} | {columns['3.0']} | {columns['3.5']} | {each.source} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    DOCUMENT.write_text(table(), encoding="utf-8")
