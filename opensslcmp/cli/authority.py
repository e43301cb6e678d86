"""``opensslcmp ca list``, ``show``, ``revoke``, ``crl``, ``pending``, ``approve``, ``reject``, ``answer``: what an operator does.

They work on the CA's directory, whether a server runs on it or not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.cli.ca import AsJSON, Directory, open_ca, open_settings
from opensslcmp.cli.exits import InputError, UsageError
from opensslcmp.cli.operator import record_act
from opensslcmp.cli.talk import give, give_json, say
from opensslcmp.enums import RevocationReason
from opensslcmp.errors import Rejected

if TYPE_CHECKING:
    from opensslcmp.server.ca import CA
    from opensslcmp.server.store import Application, CertificateRecord

__all__ = [
    "answer",
    "approve",
    "crl",
    "describe_certificate",
    "find_certificate",
    "list_certificates",
    "pending",
    "reject",
    "revoke",
    "show",
]

Serial = Annotated[str, typer.Argument(metavar="SERIAL", help="Serial number in hexadecimal, with or without colons.")]
ID = Annotated[str, typer.Argument(metavar="ID", help='As "opensslcmp ca pending" shows it.')]


@contextmanager
def _ca(directory: Path) -> Iterator[CA]:
    ca = open_ca(directory)
    try:
        yield ca
    finally:
        ca.close()


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find_certificate(ca: CA, serial: str) -> CertificateRecord:
    """The record of a certificate.

    Raises:
        UsageError: no serial number in hexadecimal.
        InputError: there is none.
    """
    try:
        number = int(serial.replace(":", ""), 16)
    except ValueError:
        raise UsageError(f"{serial} is not a serial number in hexadecimal") from None
    record = ca.find(number)
    if record is None:
        raise InputError(f"there is no certificate {serial} of this CA")
    return record


def describe_certificate(ca: CA, record: CertificateRecord) -> dict[str, Any]:
    """A certificate and its state, for people and for JSON."""
    certificate = x509.load_der_x509_certificate(record.certificate)
    revoked = ca.store.revocation(record.key)
    return {
        "serial": f"{record.serial_number:x}",
        "subject": certificate.subject.rfc4514_string(),
        "state": record.state.name.lower(),
        "reason": revoked.reason.text if revoked else None,
        "revoked_at": _when(revoked.at) if revoked else None,
        "issued_at": _when(record.issued_at),
        "not_after": _when(record.not_after),
    }


def list_certificates(directory: Directory, *, as_json: AsJSON = False) -> None:
    """List all certificates of a CA, in the order of their issue.

    States are unconfirmed, valid, updating (an update waits for its confirmation), updated, and revoked, which certificates
    on hold are too.
    """
    with _ca(directory) as ca:
        told = [describe_certificate(ca, record) for record in ca.store.every_certificate()]
    if as_json:
        give_json(told)
        return
    for each in told:
        state = each["state"] + (f" ({each['reason']})" if each["reason"] else "")
        give(f"{each['serial']}  {state}  {each['not_after']}  {each['subject']}\n")
    say(f"{len(told)} certificates")


def show(directory: Directory, serial: Serial, *, as_json: AsJSON = False) -> None:
    """Show one certificate, what became of it, and what it was updated from and to.

    The certificate itself comes in PEM.
    """
    with _ca(directory) as ca:
        record = find_certificate(ca, serial)
        before = ca.store.certificate(record.updates) if record.updates else None
        told = describe_certificate(ca, record) | {
            "updates": f"{before.serial_number:x}" if before else None,
            "updated_by": [f"{each.serial_number:x}" for each in ca.store.successors(record.key)],
            "transaction_id": record.transaction_id.hex(),
            "issued_to": _identity(record.identity),
        }
    pem = x509.load_der_x509_certificate(record.certificate).public_bytes(Encoding.PEM).decode()
    if as_json:
        give_json(told | {"certificate": pem})
        return
    for name, value in told.items():
        if value:
            give(f"{name.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value}\n")
    give(pem)


def _identity(identity: bytes) -> str:
    kind, _, rest = identity.partition(b":")
    if kind == b"mac":
        return f"mac:{rest.decode('utf-8', 'backslashreplace')}"
    return f"{kind.decode('ascii', 'backslashreplace')}:{rest.hex()}"


def revoke(
    directory: Directory,
    serial: Serial,
    *,
    reason: Annotated[
        str,
        typer.Option("--reason", help="keyCompromise, superseded, certificateHold, removeFromCRL...", metavar="REASON"),
    ] = "unspecified",
    as_json: AsJSON = False,
) -> None:
    """Revoke a certificate, put it on hold or release it.

    With --reason certificateHold it can be released again, by --reason removeFromCRL. The CRL, and a server that runs, show it
    at once.
    """
    reasons = {each.text.lower(): each for each in RevocationReason}
    chosen = reasons.get(reason.lower())
    if chosen is None:
        raise UsageError(f"--reason is one of {', '.join(each.text for each in RevocationReason)}")
    with _ca(directory) as ca:
        record = find_certificate(ca, serial)
        try:
            done = ca.change_status(record.serial_number, chosen)
        except Rejected as error:
            raise InputError(f"{serial}: {'; '.join(error.text)}") from None
        told = describe_certificate(ca, find_certificate(ca, serial))
    record_act(directory, "revoke", serials=[told["serial"]], reason=chosen.text)
    if as_json:
        give_json(told)
    else:
        say(f"{told['serial']} {done}")


def crl(
    directory: Directory,
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write it; - or nothing: stdout")] = None,
    der: Annotated[bool, typer.Option("--der", help="DER instead of PEM")] = False,
    as_json: AsJSON = False,
) -> None:
    """Write the CRL of now.

    A running server serves the same one.
    """
    with _ca(directory) as ca:
        current = ca.current_crl()
    content = current.content
    if not der:
        content = x509.load_der_x509_crl(content).public_bytes(Encoding.PEM)
    to_file = out is not None and str(out) != "-"
    if out is not None and to_file:
        out.write_bytes(content)
    if as_json:
        told = {
            "number": current.number,
            "this_update": _when(current.made_at),
            "next_update": _when(current.good_until),
        }
        give_json(told | {"revoked": len(x509.load_der_x509_crl(current.content))})
    elif not to_file:
        give(content)


def _application(application: Application) -> dict[str, Any]:
    return {
        "id": application.id,
        "filed_at": _when(application.filed_at),
        "kind": application.kind.text,
        "subject": application.subject,
        "names": application.names,
        "key_sha256": application.key_hash,
        "requester": application.requester,
        "address": application.address,
        "label": application.label,
        "profile": application.profile,
    }


def pending(directory: Directory, *, as_json: AsJSON = False) -> None:
    """List the requests that wait for approval, oldest first.

    They come from a server that was started with "--approval manual". Each line has what "ca approve" and "ca reject" need first.
    """
    from opensslcmp.server.approval import pending_applications

    with _ca(directory) as ca:
        told = [_application(each) for each in pending_applications(ca.store)]
    if as_json:
        give_json(told)
        return
    for each in told:
        names = f" ({each['names']})" if each["names"] else ""
        origin = f" at {each['address']}" if each["address"] else ""
        origin += f" by label {each['label']}" if each["label"] else ""
        origin += f" for profile {each['profile']}" if each["profile"] else ""
        give(
            f"{each['id']}  {each['filed_at']}  {each['kind']}  {each['subject']}{names}  from {each['requester']}{origin}\n"
        )
    say(f"{len(told)} requests wait")


def approve(directory: Directory, application_id: ID, *, as_json: AsJSON = False) -> None:
    """Approve a request for a certificate; the client gets it when it polls next.

    Look at it with "ca pending" first: subject and names are what the client asked for.
    """
    _decide(directory, application_id, True, "", as_json)


def reject(
    directory: Directory,
    application_id: ID,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why, in words; the client is told", metavar="TEXT")] = "",
    as_json: AsJSON = False,
) -> None:
    """Refuse a request for a certificate; the client learns it when it polls next.

    It is told notAuthorized, and the words of --reason.
    """
    _decide(directory, application_id, False, reason, as_json)


def _decide(directory: Path, application_id: str, approved: bool, reason: str, as_json: bool) -> None:
    from opensslcmp.server.approval import pending_applications

    with _ca(directory) as ca:
        waiting = {each.id: each for each in pending_applications(ca.store)}
        found = waiting.get(application_id)
        if found is None or not ca.store.decide(application_id, approved, reason, time.time()):
            known = ca.store.application(application_id)
            if known is not None and known.approved is not None:
                raise InputError(f"{application_id} was {'approved' if known.approved else 'rejected'} already")
            raise InputError(f"no request {application_id} waits for approval")
    if as_json:
        give_json(_application(found) | {"approved": approved})
    else:
        say(f"{application_id} {'approved' if approved else 'rejected'}: {found.subject}")


def answer(
    directory: Directory,
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="File with a request, in DER; - : stdin")],
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Where to write the answer; - or nothing: stdout")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Label that the request is for", metavar="LABEL")] = None,
) -> None:
    """Answer one request from a file, where no network is.

    Clients write requests by --server file:DIRECTORY, and find answers that lie in its directory "answers" under the request's
    name. The same request gets the same answer again.
    """
    from opensslcmp.server.live import LiveResponder
    from opensslcmp.server.peer import Peer
    from opensslcmp.server.watching import Watch

    settings = open_settings(directory)
    most = settings.limits.gate.max_message_bytes
    try:
        if str(request) == "-":
            message = sys.stdin.buffer.read(most + 1)
        else:
            with request.open("rb") as file:
                message = file.read(most + 1)
    except OSError as error:
        raise InputError(f"{request}: {error.strerror}") from None
    if len(message) > most:
        raise InputError(f"{request}: a message may have {most} bytes")
    open_ca(directory).close()  # its words are better
    watch = Watch(settings, directory)
    live = LiveResponder(directory, observe=watch, is_open=watch.is_open)
    try:
        watch.begin(live.ca)
        said = live.handle(message, Peer(address=f"file:{request}", label=label))
    finally:
        live.close()
        watch.close()
    if out is not None and str(out) != "-":
        out.write_bytes(said)
    else:
        give(said)
