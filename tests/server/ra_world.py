"""The parties of the tests of registration authorities: a CA, an RA before it, and an end entity before that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import Trust, facts
from opensslcmp.credentials import SharedSecret, Signer
from opensslcmp.server import MemoryStore, Responder
from opensslcmp.server.ra import RA
from opensslcmp.server.secret_book import FoundSecret
from opensslcmp.server.store import Store
from tests.server.device import KEYS
from tests.server.world import Clock, World, fresh_world

SECRET = SharedSecret("device", b"known to the RA only")


def secret_of(reference: bytes) -> FoundSecret | None:
    return FoundSecret(value=SECRET.secret) if reference == SECRET.reference else None


@dataclass
class Line:
    """The way from the RA to its CA: what went over it, and what goes wrong on it.

    Attributes:
        before: called with each message before the CA gets it; it may raise.
        after: called with the answer before the RA gets it.
    """

    handle: Callable[[bytes], bytes]
    sent: list[bytes] = field(default_factory=list)
    before: Callable[[bytes], object] | None = None
    after: Callable[[bytes], object] | None = None

    def __call__(self, request: bytes) -> bytes:
        self.sent.append(request)
        if self.before is not None:
            self.before(request)
        answer = self.handle(request)
        if self.after is not None:
            self.after(answer)
        return answer


@dataclass
class RAWorld:
    """A CA, an RA with a certificate of it, and the line between them."""

    upstream: World
    line: Line
    store: Store
    clock: Clock
    signer: Signer
    certificate: x509.Certificate
    options: dict[str, Any]
    responder: Responder = field(init=False)

    def __post_init__(self) -> None:
        self.responder = self.make()

    def make(self, store: Store | None = None, context: dict[str, Any] | None = None, **options: Any) -> Responder:
        """The RA's Responder; another worker of it, when asked again."""
        store = self.store if store is None else store
        root = self.upstream.ca.certificate
        values = self.options | options
        for_ra = {name: values.pop(name) for name in list(values) if name not in _RESPONDERS}
        ra = RA(
            Context(credential=self.signer, trusted=[root], **(context or {})),
            store,
            transport=for_ra.pop("transport", self.line),
            certificate=root,
            clock=self.clock,
            **for_ra,
        )
        return Responder(ra, store, self.signer, secrets=secret_of, trust=Trust([root]), clock=self.clock, **values)

    def session(self, handle: Callable[[bytes], bytes] | None = None, **options: Any) -> Session:
        """An end entity that knows the secret of the RA."""
        values: dict[str, Any] = {"credential": SECRET, "trusted": [self.upstream.ca.certificate]} | options

        def passing(seconds: float) -> None:
            self.clock.now += seconds

        return Session(Context(**values), handle or self.responder.handle, sleep=passing)

    def state(self, certificate: x509.Certificate) -> str:
        """Of a certificate at the CA."""
        record = self.upstream.ca.find(certificate.serial_number)
        assert record is not None
        return record.state.name


_RESPONDERS = frozenset(("implicit_confirm", "confirm_wait_seconds", "wait_seconds", "profile", "policy", "observe"))


def ra_world(store: Store | None = None, authority: Any = None, **options: Any) -> RAWorld:
    """The parties; ``authority`` makes one that stands before the CA, other options are the RA's and its Responder's."""
    plain = fresh_world()
    plain.ca.add_secret("ra", "secret")
    session = Session(Context(credential=SharedSecret("ra", b"secret")), plain.responder.handle)
    issued = session.enroll("CN=RA", KEYS[0])
    der = issued.certificate.public_bytes(Encoding.DER)
    made = None if authority is None else authority(plain.ca)
    plain.responder = plain.again(made, registration_authorities=[facts(der).fingerprint])
    signer = Signer(der, KEYS[0], [plain.ca.certificate])
    line = Line(plain.responder.handle)
    return RAWorld(
        plain, line, MemoryStore() if store is None else store, plain.clock, signer, issued.certificate, options
    )
