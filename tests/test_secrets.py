"""A secret that is given to us is never shown: not in a log at DEBUG, an exception, a repr, or on a stream."""

import base64
import contextlib
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from opensslcmp.asn1 import admit
from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import Trust, load_certificates
from opensslcmp.context.client import ClientContext
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import protect_message, protector_for, verify
from opensslcmp.credentials import SharedSecret, Signer
from opensslcmp.enums import BodyType
from opensslcmp.errors import CMPError
from opensslcmp.server.ca import CA, open_responder
from opensslcmp.server.store import Store
from opensslcmp.transport import TLS, HTTPTransport, InProcess
from tests import native_peers as peers
from tests.secrets_seen import SEEN, shown
from tests.server.world import fresh_world

MARKER = b"Tr0ub4dor-and-3"
SHAPES = [
    MARKER,
    MARKER.hex().encode(),
    MARKER.hex(":").encode(),
    base64.b64encode(MARKER).rstrip(b"="),
    b", ".join(b"%d" % octet for octet in MARKER),
]


class Watch:
    """Collects everything a person could read."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self._caplog = caplog
        self._capfd = capfd
        self._seen: list[str] = []

    def see(self, *things: object) -> None:
        """What these look like."""
        for thing in things:
            self._seen += [repr(thing), str(thing), f"{thing}"]

    def fails(self, operation: Callable[..., Any], *args: Any, frames: bool = True, **more: Any) -> None:
        """The operation must fail, with an exception that tells nothing; ``frames``: nor do the locals of its traceback."""
        with pytest.raises((CMPError, ValueError)) as caught:
            operation(*args, **more)
        error: BaseException | None = caught.value
        while error is not None:
            self.see(error, error.args, vars(error))
            error = error.__cause__ or error.__context__
        self._seen += traceback.format_exception(caught.value)
        # As a debugger, or a service that collects errors, shows it: with the locals of each frame of ours.
        for frame, _ in traceback.walk_tb(caught.value.__traceback__) if frames else ():
            if frame.f_globals.get("__name__", "").startswith("opensslcmp."):
                for name, value in frame.f_locals.items():
                    with contextlib.suppress(AttributeError):  # one that is not made yet
                        self._seen.append(f"{frame.f_code.co_qualname}: {name} = {value!r}")

    def check(self) -> None:
        """Nothing of what was seen, logged or printed has the secret in it, in any common spelling."""
        out, err = self._capfd.readouterr()
        logged = [record.getMessage() + str(record.__dict__) for record in self._caplog.records]
        text = "\n".join([*self._seen, *logged, out, err]).encode("utf-8", "backslashreplace").lower()
        assert [shape for shape in SHAPES if shape.lower() in text] == []


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Watch]:
    caplog.set_level(logging.DEBUG)
    watching = Watch(caplog, capfd)
    yield watching
    watching.check()


def test_the_watch_notices(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    watching = Watch(caplog, capfd)
    watching.see({"secret": MARKER})
    with pytest.raises(AssertionError):
        watching.check()


def test_credentials_do_not_show_it(watch: Watch) -> None:
    secret = SharedSecret("device", MARKER)
    encrypted = encrypted_key()
    signer = Signer(peers.device_party().certificate, encrypted, password=MARKER)
    watch.see(secret, signer, protector_for(secret), [secret], {"credential": signer})
    watch.see(PrivateKey.load(encrypted, MARKER))
    watch.fails(PrivateKey.load, encrypted, MARKER + b"?")
    watch.fails(PrivateKey.load, MARKER)


def test_a_wrong_mac_does_not_show_it(watch: Watch) -> None:
    secret = SharedSecret("device", MARKER)
    captured: list[bytes] = []
    client = peers.make_client(lambda der: captured.append(der) or b"", peers.CA())  # type: ignore[func-returns-value]
    watch.fails(client.request_certificate, BodyType.IR)
    message = admit(protect_message(captured[0], SharedSecret("device", b"another")))
    watch.fails(verify, message, secrets=lambda _reference: secret, trust=Trust([peers.root().der]))
    watch.see(message, verify(admit(protect_message(captured[0], secret)), secrets=lambda _reference: secret))


@pytest.mark.parametrize("secret_of_server", [MARKER, b"another"])
def test_openssl_s_client_and_server_do_not_show_it(watch: Watch, secret_of_server: bytes) -> None:
    ca = peers.CA()
    server = peers.make_server(ca)
    server.context.secret = secret_of_server
    server.context.log_verbosity = 8
    client: ClientContext = peers.make_client(server.process, ca)
    client.secret = MARKER
    client.log_verbosity = 8
    if secret_of_server == MARKER:
        client.request_certificate(BodyType.IR)
    else:
        watch.fails(client.request_certificate, BodyType.IR)
    watch.see(client, server, vars(client), vars(server), client.status_text)


@pytest.mark.parametrize("secret_of_client", [MARKER, MARKER + b"?"])
def test_an_enrollment_and_its_records_do_not_show_it(watch: Watch, tmp_path: Path, secret_of_client: bytes) -> None:
    with closing(CA.create(tmp_path / "ca")) as ca:
        ca.add_secret("device", MARKER)
        responder = open_responder(tmp_path / "ca")
        context = Context(credential=SharedSecret("device", secret_of_client))
        session = Session(context, InProcess(responder))
        if secret_of_client == MARKER:
            watch.see(session.enroll("CN=device", generate="ec:P-256"))
        else:
            watch.fails(session.enroll, "CN=device", generate="ec:P-256")
        found = ca.secrets.find(b"device")
        assert found is not None
        assert found.value == MARKER
        watch.see(found, ca, ca.secrets, ca.store, ca.list_secrets(), responder, context, session)
        watch.see(vars(ca), vars(responder), vars(session), open_transactions(ca.store))
        responder.close()
    files = [path for path in (tmp_path / "ca").iterdir() if path.is_file()]
    assert len(files) >= 4
    watch.see(*[path.read_bytes().decode("latin-1") for path in files])


def open_transactions(store: Store) -> object:
    """What the store says of transactions whose time is up: all of them, at the end of time."""
    return list(store.overdue(1e12, 100))


@pytest.mark.parametrize("at", [60, 200])
def test_an_answer_that_is_not_right_does_not_show_it(watch: Watch, at: int) -> None:
    world = fresh_world()
    world.ca.add_secret("device", MARKER)

    class Changing:
        def send(self, request: bytes, timeout_seconds: float | None = None) -> bytes:
            answer = bytearray(world.responder.handle(request))
            answer[at] ^= 1
            return bytes(answer)

        def close(self) -> None:
            """Nothing to close."""

    session = Session(Context(credential=SharedSecret("device", MARKER)), Changing())
    watch.fails(session.ca_certificates)


def test_passwords_of_files_are_not_in_the_frames_of_an_error(watch: Watch) -> None:
    watch.fails(load_certificates, b"junk", MARKER)
    watch.fails(load_certificates, encrypted_key(), MARKER)
    watch.fails(PrivateKey.load, b"junk", MARKER)


def test_what_the_suite_prints_is_looked_through() -> None:
    """By ``tests.secrets_seen``, which every test runs under."""
    secret = SharedSecret("device", "a secret of this test alone")
    assert shown("x = b'a secret of this test alone'") == [secret.secret]
    assert shown("-----BEGIN EC PRIVATE KEY-----\nMHcC") == [b"PRIVATE KEY-----"]
    assert shown("-----BEGIN ENCRYPTED PRIVATE KEY-----") == []
    assert shown("another") == []
    SEEN.discard(secret.secret)


def test_transports_do_not_show_it(watch: Watch) -> None:
    secret = MARKER.decode()
    tls = TLS(certificate=peers.device_party().certificate, key=encrypted_key(), password=MARKER)
    watch.see(tls)
    transport = HTTPTransport(f"http://user:{secret}@127.0.0.1:9/", proxy=f"http://user:{secret}@127.0.0.1:9/")
    watch.see(transport)
    # A URL is taken apart where it is used, and what it is taken apart into is there.
    watch.fails(transport.send, b"0\x00", frames=False)
    watch.fails(HTTPTransport(f"http://user:{secret}@127.0.0.1:9/").send, b"0\x00", frames=False)
    watch.fails(HTTPTransport, f"gopher://user:{secret}@127.0.0.1:9/", frames=False)


@pytest.mark.parametrize("command", ["enroll", "info"])
def test_the_command_line_does_not_show_it(watch: Watch, tmp_path: Path, command: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(MARKER)
    for source in ("env:MARKED", f"file:{file}"):
        arguments = ["--server", "http://127.0.0.1:9", "--ref", "device", "--secret", source]
        if command == "enroll":
            arguments += ["--subject", "/CN=device", "--newkey", "ec:P-256", "--newkeyout", str(tmp_path / "key.pem")]
            arguments += ["--certout", str(tmp_path / "cert.pem")]
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "opensslcmp", command, *arguments],
            env={**os.environ, "MARKED": MARKER.decode()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 4, done.stderr
        watch.see(done.stdout, done.stderr)


def encrypted_key() -> bytes:
    """A key under the marker as its password."""
    return peers.new_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(MARKER)
    )
