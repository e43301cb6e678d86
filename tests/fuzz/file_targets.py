"""Files that a person or another program wrote: each is used, or refused in words."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, pkcs12

from opensslcmp.cli.cmp.arguments import Arguments
from opensslcmp.cli.cmp.log import Log
from opensslcmp.cli.cmp.sources import Sources
from opensslcmp.cli.enroll_many import read_inventory
from opensslcmp.cli.exits import InputError
from opensslcmp.client.journal import Entry, Journal, State
from opensslcmp.client.pending import Pending
from opensslcmp.context.certificates import load_certificates
from opensslcmp.context.config import Config
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType
from opensslcmp.errors import OpenSSLError
from opensslcmp.server.inventory import CSVInventory
from opensslcmp.server.ra_settings import RAConfiguration
from opensslcmp.server.settings import Settings
from opensslcmp.server.tables import SettingsError
from tests.context.issuing import INTER, crl, der, device, key
from tests.fuzz.engine import Target
from tests.server.device import csr

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "opensslcmp.toml"
SETTINGS = b"""
[inventory]
csv = "devices.csv"
[limits]
max_open_transactions = 7
[limits.gate]
max_message_bytes = 5000
[rules]
profile = "strict"
on = ["signer_asks_for_its_own_names"]
[labels.a]
profiles = ["b"]
[profiles.b]
validity_days = 3
[authorisation]
references = ["dev*"]
"""


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@contextlib.contextmanager
def keys() -> Iterator[Target]:
    """Keys, certificates, CSRs and CRLs, PEM and DER and PKCS #12, as the commands read them."""
    certificate = device()
    own = PrivateKey.load(key())
    p12 = pkcs12.serialize_key_and_certificates(None, key(), certificate, [INTER], BestAvailableEncryption(b"pass"))
    pem = certificate.public_bytes(Encoding.PEM)
    request = csr(own)
    seeds = [own.to_pem(), own.to_pem("pass"), p12, der(certificate), pem + INTER.public_bytes(Encoding.PEM), request]
    seeds += [der(crl("root", key("ec", 100))), PrivateKey.load(key("rsa")).to_pem(), own.public_key_der]
    with _scratch() as place:
        path = place / "input"
        options = {name: str(path) for name in ("csr", "newkey", "cert", "crlcert", "trusted", "key", "oldcrl")}
        sources = Sources(Arguments({**options, "keypass": "pass:pass", "otherpass": "pass:pass"}), Log(0))

        def run(chance: random.Random, data: bytes) -> None:
            with contextlib.suppress(OpenSSLError, ValueError):
                PrivateKey.load(data, "pass")
            with contextlib.suppress(OpenSSLError, ValueError):
                load_certificates(data, "pass")
            path.write_bytes(data)
            with contextlib.suppress(InputError):
                sources.key("key", "keypass")
            with contextlib.suppress(InputError):
                sources.public_key("newkey")
            with contextlib.suppress(InputError):
                sources.certificates("trusted")
            with contextlib.suppress(InputError):
                sources.csr("csr")
            with contextlib.suppress(InputError):
                sources.crl("oldcrl")

        yield Target(name="keys", seeds=seeds, run=run, der=True)


@contextlib.contextmanager
def inventories() -> Iterator[Target]:
    """What ``enroll-many`` and a registration authority read: CSV and JSON lines."""
    seeds = [
        b'id,subject,sans,days,key\na,/CN=a,DNS:a.example,30,ec:P-256\n"b","/CN=b,/O=x",,,rsa:2048\n',
        b'{"id": "a", "subject": "/CN=a", "sans": ["DNS:a.example", "IP:192.0.2.1"], "days": 30}\n'
        b'{"id": "b", "subject": "/CN=b"}\n',
        b"reference,subject,grant,kinds,profile\ndevice-1,CN=*,yes,ir kur,\ndevice-2,CN=b,no,,\n",
    ]
    with _scratch() as place:

        def run(_: random.Random, data: bytes) -> None:
            for name in "lines.csv", "lines.jsonl":
                path = place / name
                path.write_bytes(data)
                path.chmod(0o600)
                with contextlib.suppress(InputError):
                    read_inventory(path)
            with contextlib.suppress(ValueError):
                CSVInventory(place / "lines.csv")

        yield Target(name="inventory", seeds=seeds, run=run, der=False, quick=True)


@contextlib.contextmanager
def settings() -> Iterator[Target]:
    """``opensslcmp.toml`` of a CA and of a registration authority, and OpenSSL's configuration files."""
    openssl = b"[default]\nserver = 127.0.0.1\n[ext]\nsubjectAltName = DNS:a.example, IP:192.0.2.1\n"
    openssl += b"keyUsage = critical,digitalSignature\n"
    with _scratch() as place:
        path = place / "opensslcmp.toml"

        def run(_: random.Random, data: bytes) -> None:
            path.write_bytes(data)
            for kind in Settings, RAConfiguration:
                with contextlib.suppress(SettingsError):
                    kind.load(path)
            with contextlib.suppress(OpenSSLError, ValueError):
                config = Config(path)
                config.get("default", "server")
                config.extensions("ext")

        yield Target(name="settings", seeds=[EXAMPLE.read_bytes(), SETTINGS, openssl], run=run, der=False)


@contextlib.contextmanager
def journals() -> Iterator[Target]:
    """The file of a client's journal."""
    with _scratch() as place:
        path = place / "journal"
        with Journal(path) as journal:
            journal.record(Entry(transaction_id=bytes(16), pending=b"{}", message=b"0\0"))
        seed = path.read_bytes()

        def run(_: random.Random, data: bytes) -> None:
            for suffix in "-wal", "-shm", "-journal":
                (place / f"journal{suffix}").unlink(missing_ok=True)
            path.write_bytes(data)
            path.chmod(0o600)
            with contextlib.suppress(ValueError, OSError), Journal(path) as journal:
                journal.unfinished()
                journal.counts()
                journal.record(Entry(transaction_id=bytes(16), pending=b"{}", message=b"0\0", state=State.DONE))

        yield Target(name="journal", seeds=[seed], run=run, der=False)


@contextlib.contextmanager
def pendings() -> Iterator[Target]:
    """A saved ``Pending``."""
    name = b"0\0"
    ids = {"transaction_id": bytes(16), "nonces": (bytes(16), bytes(16)), "peer_nonce": bytes(16), "recipient": name}
    first = Pending(kind=BodyType.IR, subject=name, public_key=b"0\0", deadline=1e9, waiting_for=0, **ids)  # type: ignore[arg-type]
    other = Pending(kind=BodyType.RR, issuer=name, serial_number=1 << 100, label="a", server="http://a/", refusal="no")
    saved = [first.save(), other.save()]

    def run(_: random.Random, data: bytes) -> None:
        with contextlib.suppress(ValueError):
            Pending.load(data)

    yield Target(name="pending", seeds=saved, run=run, der=False, quick=True)
