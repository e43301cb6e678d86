"""``opensslcmp announce`` and ``listen``: what a CA tells without being asked, and who hears it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.cli.authority import find_certificate
from opensslcmp.cli.ca import AsJSON, Directory, open_settings
from opensslcmp.cli.exits import Exit, InputError, UsageError
from opensslcmp.cli.talk import give_json, say
from opensslcmp.errors import CMPError, OpenSSLError, ProtectionError

if TYPE_CHECKING:
    from opensslcmp.client.announcements import Announcement, Notice
    from opensslcmp.server.app import App
    from opensslcmp.server.ca import CA

__all__ = ["announce", "listen", "load_app"]

_KINDS = ("ckuann", "crlann", "rann", "cann")


def announce(
    directory: Directory,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="ckuann, crlann, rann or cann.")],
    serial: Annotated[
        str | None, typer.Argument(metavar="SERIAL", help="Of which certificate, for rann and cann; hexadecimal.")
    ] = None,
    *,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="Receiver; may be repeated; by default those of [announce]", metavar="URL"),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """Announce the CA's last new key, its CRLs, a revocation or a certificate, once, now.

    A server announces by itself what [announce] in opensslcmp.toml names, and tries again until it is acknowledged. This is for
    receivers that missed it.
    """
    from opensslcmp.client.announcements import announce as deliver
    from opensslcmp.client.announcements import announcement_message
    from opensslcmp.server.ca import CA, open_responder
    from opensslcmp.transport import TLS, transport_for

    if kind not in _KINDS:
        raise UsageError(f"KIND is one of {', '.join(_KINDS)}")
    if (kind in {"rann", "cann"}) is (serial is None):
        raise UsageError("SERIAL is for rann and cann, which need it")
    settings = open_settings(directory)
    receivers = to or settings.announce.receivers
    if not receivers:
        raise UsageError("--to, or receivers in [announce], says who is told")
    try:
        responder = open_responder(directory, settings=settings)
    except FileNotFoundError as error:
        raise InputError(f"there is no CA in {directory}: {error.filename or error} is missing") from None
    except (ConnectionError, OpenSSLError, ValueError) as error:
        raise InputError(f"the CA in {directory} does not open: {error}") from None
    trusted = settings.announce.tls_trusted
    told = []
    try:
        authority = responder.authority
        ca = authority if isinstance(authority, CA) else getattr(authority, "authority", None)
        assert isinstance(ca, CA)
        message = announcement_message(_notice(ca, kind, serial), responder.protector)
        for url in receivers:
            problem = None
            try:
                transport = transport_for(url, tls=None if trusted is None else TLS(trusted=trusted))
                deliver(transport, message, settings.announce.timeout_seconds)
            except (CMPError, OSError, ValueError) as error:
                problem = str(error)
            told.append({"receiver": url, "acknowledged": problem is None, "problem": problem})
            if not as_json:
                say(f"{url}: {problem or 'acknowledged'}")
    finally:
        responder.close()
    if as_json:
        give_json(told)
    if not all(each["acknowledged"] for each in told):
        raise typer.Exit(Exit.SOME_FAILED)


def _notice(ca: CA, kind: str, serial: str | None) -> Notice:
    from opensslcmp.client.announcements import Notice
    from opensslcmp.server.announcer import notices_of

    if serial is None:
        found = next(iter(notices_of(ca, kind)), None)
        if found is None:
            raise InputError("this CA has had one key only")
        return found
    record = find_certificate(ca, serial)
    if kind == "cann":
        return Notice.certificate(record.certificate)
    revoked = ca.store.revocation(record.key)
    if revoked is None:
        raise InputError(f"{serial} is not revoked")
    at = datetime.fromtimestamp(revoked.at, UTC)
    return Notice.revocation(ca.subject, record.serial_number, at=at, reason=revoked.reason)


def listen(
    *,
    trusted: Annotated[Path, typer.Option("--trusted", help="The root that is held, and believed (PEM)")],
    out: Annotated[Path, typer.Option("--out", help="Where what is announced goes", metavar="DIRECTORY")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 picks a free one", min=0, max=65535)] = 8090,
) -> None:
    """Receive what a CA announces, over HTTP, and write it to files.

    DIRECTORY gets crl-*.der, certificate-*.pem, root-update-*.pem (newWithNew, newWithOld, oldWithNew, once they were checked
    against --trusted) and revocations.jsonl. Prints "listening on URL", then a line of JSON for each announcement. The root in
    --trusted stays as it is: who takes a new one does so by hand.
    """
    from opensslcmp.cli.ca import ready
    from opensslcmp.client.context import Context
    from opensslcmp.server.serve import serve as run_server
    from opensslcmp.server.server_settings import ServerSettings

    try:
        Context(trusted=trusted, unprotected_requests=True)
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, OpenSSLError, ValueError) as error:
        raise InputError(str(error)) from None
    run_server(partial(load_app, trusted.absolute(), out.absolute()), ServerSettings(host=host, port=port), ready=ready)


def load_app(trusted: Path, out: Path) -> App:
    """The application that receives."""
    from opensslcmp.client.announcements import ANNOUNCEMENTS
    from opensslcmp.client.context import Context
    from opensslcmp.server.announcements import Receiver
    from opensslcmp.server.app import App

    context = Context(trusted=trusted, unprotected_requests=True)
    take: Callable[[Announcement], None] = partial(_take, context.trusted, out)
    return App(Receiver(context, dict.fromkeys(ANNOUNCEMENTS, take)), threads=0)


def _take(roots: tuple[bytes, ...], out: Path, announcement: Announcement) -> None:
    from opensslcmp.enums import BodyType, FailureInfo
    from opensslcmp.errors import Rejected
    from opensslcmp.server.files import replace_file

    told: dict[str, Any] = {"announced": announcement.kind.text}
    if announcement.kind is BodyType.CRLANN:
        told["files"] = []
        for crl in announcement.crls:
            der = crl.public_bytes(Encoding.DER)
            told["files"].append(f"crl-{hashlib.sha256(der).hexdigest()[:16]}.der")
            replace_file(out / told["files"][-1], der)
    elif announcement.kind is BodyType.CANN:
        certificate = announcement.certificate
        told["file"] = f"certificate-{certificate.serial_number:x}.pem"
        replace_file(out / told["file"], certificate.public_bytes(Encoding.PEM))
    elif announcement.kind is BodyType.RANN:
        revoked = announcement.revocation
        told |= {
            "issuer": x509.Name.from_bytes(revoked.issuer).rfc4514_string(),
            "serial": f"{revoked.serial_number:x}",
            "status": revoked.status.text,
            "at": revoked.at.isoformat(),
            "reason": None if revoked.reason is None else revoked.reason.text,
        }
        with (out / "revocations.jsonl").open("a") as file:
            file.write(json.dumps(told) + "\n")
    else:
        for root in roots:
            try:
                update = announcement.root_update(root)
            except ProtectionError:
                continue
            three = (update.new_with_new, update.new_with_old, update.old_with_new)
            pem = b"".join(each.public_bytes(Encoding.PEM) for each in three if each is not None)
            told["file"] = f"root-update-{hashlib.sha256(pem).hexdigest()[:16]}.pem"
            replace_file(out / told["file"], pem)
            break
        else:
            raise Rejected(FailureInfo.SIGNER_NOT_TRUSTED, "nothing ties the new root to the one that is held")
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
