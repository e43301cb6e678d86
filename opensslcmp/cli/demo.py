"""``opensslcmp demo``: a certificate issued, renewed and revoked over HTTP, told step by step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

import opensslcmp
from opensslcmp.cli.exits import InputError
from opensslcmp.cli.files import pem
from opensslcmp.cli.talk import give, give_json
from opensslcmp.client.context import Context
from opensslcmp.client.results import Issued
from opensslcmp.client.session import Session
from opensslcmp.credentials import SharedSecret, Signer
from opensslcmp.enums import RevocationReason
from opensslcmp.errors import CMPError, Rejected

__all__ = ["demo"]

_REFERENCE = "device-1"


def demo(
    *,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep everything in this directory, which must be new", metavar="DIR")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON for machines to stdout.")] = False,
) -> None:
    """Show it all: a CA, its server, and a device that gets, renews and revokes a certificate.

    Everything happens in a temporary directory and on a free port of this machine, and nothing is left behind but
    with --keep.
    """
    teller = _Teller(quiet=as_json)
    with ExitStack() as stack:
        stack.enter_context(_terminated_like_interrupted())
        if keep is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="opensslcmp-demo-")))
        else:
            directory = keep
            try:
                directory.mkdir(parents=True)
            except FileExistsError:
                raise InputError(f"{directory} is there already; --keep wants a new directory") from None
        _play(directory, teller, stack)
        if keep is not None:
            teller.say("")
            teller.say(f"Kept in {directory}: the CA in ca/, the device's keys and certificates in device/.")
            teller.say(f"Serve it again:  opensslcmp serve {directory / 'ca'}")
    if as_json:
        give_json({"steps": teller.steps, "seconds": round(sum(step["seconds"] for step in teller.steps), 4)})


def _play(directory: Path, teller: _Teller, stack: ExitStack) -> None:
    from opensslcmp.server.ca import CA

    device = directory / "device"
    device.mkdir()
    with teller.step("ca", "A CA is made in an empty directory: key, certificate, database, CRL.") as told:
        ca = CA.create(directory / "ca", "CN=Demo CA,O=opensslcmp")
        told["files"] = sorted(path.name for path in (directory / "ca").iterdir())
    with teller.step(
        "secret", "The device gets a secret, as it would at the factory; the CA keeps it encrypted."
    ) as told:
        secret = ca.add_secret(_REFERENCE)
        told["reference"] = _REFERENCE
    ca_certificate = ca.certificate
    ca.close()
    with teller.step("server", "The CA's server starts, a process of its own on a free port.") as told:
        url = stack.enter_context(_server(directory / "ca"))
        told["url"] = url
    with teller.step(
        "enroll", "The device makes a key and asks for a certificate, protected by the secret (ir)."
    ) as told:
        context = Context(url, credential=SharedSecret(_REFERENCE, secret))
        stack.callback(context.close)
        first = Session(context).enroll(f"CN={_REFERENCE}", generate="ec:P-256")
        _save(device, "first", first)
        told.update(_about(first))
    with teller.step("update", "It makes a new key and renews, signing with the first certificate (kur).") as told:
        signed = Context(url, credential=Signer(first.certificate, first.key, first.chain), trusted=[ca_certificate])
        stack.callback(signed.close)
        second = Session(signed).update(generate="ec:P-256")
        _save(device, "second", second)
        told.update(_about(second))
    with teller.step("revoke", "It loses the new key and has that certificate revoked (rr).") as told:
        own = Context(url, credential=Signer(second.certificate, second.key, second.chain), trusted=[ca_certificate])
        stack.callback(own.close)
        revoked = Session(own).revoke(reason=RevocationReason.KEY_COMPROMISE)
        told["status"] = revoked.status.text
    with teller.step("refused", "A thief with that key tries to renew, and is refused.") as told:
        try:
            Session(own).update(generate="ec:P-256")
        except Rejected as error:
            told["answer"] = str(error)
        else:
            raise CMPError("a revoked certificate was renewed")


def _save(directory: Path, name: str, issued: Issued) -> None:
    (directory / f"{name}.pem").write_bytes(pem([issued.certificate, *issued.chain]))
    if issued.key is not None:
        place = directory / f"{name}.key"
        place.touch(mode=0o600)
        place.write_bytes(issued.key.to_pem())


def _about(issued: Issued) -> dict[str, Any]:
    certificate = issued.certificate
    return {
        "status": issued.status.text,
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial_number": f"{certificate.serial_number:x}",
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "answer_protected_by": issued.protection.algorithm,
    }


class _Teller:
    def __init__(self, *, quiet: bool) -> None:
        self.steps: list[dict[str, Any]] = []
        self._quiet = quiet

    def say(self, text: str) -> None:
        if not self._quiet:
            give(text + "\n")

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[dict[str, Any]]:
        details: dict[str, Any] = {}
        begin = time.perf_counter()
        yield details
        seconds = time.perf_counter() - begin
        self.steps.append({"name": name, "seconds": round(seconds, 4), **details})
        self.say(f"{len(self.steps)}. {text}  [{seconds * 1000:.0f} ms]")
        for key, value in details.items():
            self.say(f"     {key.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value}")


@contextmanager
def _server(directory: Path) -> Iterator[str]:
    # The very package that runs here: not the sources that may lie in the current directory, which -m would prefer.
    paths = [str(Path(opensslcmp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-P", "-m", "opensslcmp", "serve", str(directory), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise CMPError("the server did not start")
            yield line.removeprefix("listening on ").strip()
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM cleans up as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
