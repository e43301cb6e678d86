"""The parties of the server's tests: a clock that stands still, a CA in memory, its Responder."""

from __future__ import annotations

import functools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensslcmp.context.certificates import Trust
from opensslcmp.context.keys import PrivateKey
from opensslcmp.server import CA, MemoryStore, Responder
from opensslcmp.server.store import Store
from tests.server.device import Device, mac_device


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now


class Plain:
    """Seals nothing."""

    def encrypt(self, reference: bytes, secret: bytes) -> bytes:
        return reference + b"|" + secret

    def decrypt(self, reference: bytes, sealed: bytes) -> bytes:
        assert sealed.startswith(reference + b"|")
        return sealed[len(reference) + 1 :]


@functools.cache
def own_ca() -> tuple[bytes, PrivateKey]:
    """Certificate and key of the CA that a world of its own has."""
    with tempfile.TemporaryDirectory() as directory:
        ca = CA.create(Path(directory) / "ca", "CN=Test CA")
        ca.close()
        return ca.certificate, PrivateKey.load(Path(directory) / "ca" / "ca.key")


@functools.cache
def other_ca() -> tuple[bytes, PrivateKey]:
    """Certificate and key of another CA."""
    with tempfile.TemporaryDirectory() as directory:
        # Made when it is first asked for, which may be a second after somebody's clock stood still.
        ca = CA.create(Path(directory) / "ca", "CN=Other CA", clock=lambda: time.time() - 60)
        ca.close()
        return ca.certificate, PrivateKey.load(Path(directory) / "ca" / "ca.key")


def fresh_world(**options: Any) -> World:
    """A world with a store in memory, outside of fixtures; options are the Responder's."""
    certificate, key = own_ca()
    store, clock = MemoryStore(), Clock()
    ca = CA(certificate, key, store, Plain(), clock=clock)
    responder = Responder(
        ca, store, ca.signer, secrets=ca.secrets.find, trust=Trust([certificate]), clock=clock, **options
    )
    return World(ca, store, clock, responder)


@dataclass
class World:
    """A CA, its Responder and a clock."""

    ca: CA
    store: Store
    clock: Clock
    responder: Responder

    def again(self, authority: Any = None, **options: Any) -> Responder:
        """Another Responder over the same CA and store."""
        values: dict[str, Any] = {
            "secrets": self.ca.secrets.find,
            "trust": Trust([self.ca.certificate]),
            "clock": self.clock,
        }
        values.update(options)
        return Responder(authority or self.ca, self.store, self.ca.signer, **values)

    def device(self, reference: str = "device", secret: str = "secret", **fields: Any) -> Device:
        """A device whose secret the CA knows."""
        if self.store.secret(reference.encode()) is None:
            self.ca.add_secret(reference, "secret")
        handle = fields.get("handle", self.responder.handle)
        return mac_device(handle, self.clock, reference, secret)
