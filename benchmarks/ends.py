"""Our two ends in one process: a Session that enrolls from a Responder, with the CPU of each accounted for."""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from benchmarks.anchor import Case
from benchmarks.measure import Share
from opensslcmp._native import lib, memory
from opensslcmp.client.context import Context
from opensslcmp.client.session import Session
from opensslcmp.context import protection
from opensslcmp.context.certificates import Trust
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import MacParameters, SharedSecret, Signer
from opensslcmp.server.ca import CA
from opensslcmp.server.memory import MemoryStore
from opensslcmp.server.profile import IssuingProfile
from opensslcmp.server.responder import Responder
from opensslcmp.server.secret_book import FoundSecret
from opensslcmp.server.store import Store

__all__ = ["Ends", "ca_certificate", "crossings", "new_key"]

# What OpenSSL's own client asks for; ours asks for more iterations unless told.
_CREDENTIAL = SharedSecret("device", b"benchmark-secret", parameters=MacParameters(mac="hmac-sha1", iterations=500))
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])


def new_key(kind: str) -> Any:
    """A private key as ``cryptography`` has it."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, 3072 if kind == "rsa3072" else 2048)
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())


def ca_certificate(key: Any, number: int = 0, issuer: Any = None) -> bytes:
    """DER of a CA's certificate; of several the one with ``number`` is issued by the one before, with its key."""
    now = datetime.now(UTC)
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Benchmark CA" + (f" {each}" if each else ""))])
        for each in (number, number - (issuer is not None))
    ]
    return (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(issuer or key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def _device_certificate(key: Any, issuer_key: Any, issuer: bytes) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(x509.load_der_x509_certificate(issuer).subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .sign(issuer_key, hashes.SHA256())
    )


class _Unsealed:
    """For secrets that no store keeps."""

    def encrypt(self, reference: bytes, secret: bytes) -> bytes:
        return secret

    def decrypt(self, reference: bytes, sealed: bytes) -> bytes:
        return sealed


class Ends:
    """A Session and a Responder, DER across the middle.

    Args:
        case: what kind of enrollment.
        store: of the server; in memory by default.
        path: with a signature, how many CAs stand between the signer's certificate and the anchor that the server trusts.
        extensions: how many further ones each request asks for, and ``extension_bytes`` long.
        check: whether the client checks the new certificate before it confirms it, as ``Session`` does unless told otherwise.
            The anchor and the other peers do not, so it is off where they are compared.
    """

    def __init__(
        self,
        case: Case,
        *,
        store: Store | None = None,
        path: int = 0,
        extensions: int = 0,
        extension_bytes: int = 640,
        check: bool = False,
    ) -> None:
        self._case = case
        self._server_keys: dict[Any, bytes] = {}
        # As in the anchor, where 3.0 can neither protect with EdDSA nor confirm a certificate signed with it.
        kind = "ec" if case.key == "ed25519" else case.key
        ca_key = new_key(kind)
        store = MemoryStore() if store is None else store
        self.extensions = [
            x509.UnrecognizedExtension(x509.ObjectIdentifier(f"1.3.6.1.4.1.55555.1.{number}"), bytes(extension_bytes))
            for number in range(1, extensions + 1)
        ]
        profile = IssuingProfile(allowed_extensions=frozenset(each.oid.dotted_string for each in self.extensions))
        ca = CA(ca_certificate(ca_key), PrivateKey.load(ca_key), store, _Unsealed(), profiles=[profile])
        keys = [new_key("ec") for _ in range(path + 1)] if path else []
        signers = [
            ca_certificate(key, 1000 + number, keys[number - 1] if number else None) for number, key in enumerate(keys)
        ]
        self.responder = Responder(
            ca,
            store,
            ca.signer,
            secrets=lambda _reference: FoundSecret(value=_CREDENTIAL.secret),
            trust=Trust([ca.certificate, *signers[:1]]),
        )
        self.handle: Callable[[bytes], bytes] = self.responder.handle
        self._server_ns = 0
        self.requests = 0
        self.request_bytes = 0
        self._key = PrivateKey.load(new_key(case.key))  # once, as in the anchor
        credential: SharedSecret | Signer = _CREDENTIAL
        if path:
            key = new_key("ec")
            own = _device_certificate(key, keys[-1], signers[-1])
            credential = Signer(own, key, signers[:0:-1])
        elif case.protection == "signature":
            key = new_key(kind)
            bootstrap = Session(Context(credential=credential, implicit_confirm=True), transport=self._send)
            credential = Signer(bootstrap.enroll(_NAME, key).certificate, key)
        context = Context(
            credential=credential,
            trusted=[ca.certificate] if case.protection == "signature" else (),
            implicit_confirm=case.confirm == "implicit",
            check_certificate=check,
        )
        self.session = Session(context, transport=self._send)

    def _send(self, request: bytes) -> bytes:
        # Two processes would not share the keys that they derive from a secret.
        client_keys, protection._keys = protection._keys, self._server_keys
        start = time.thread_time_ns()
        answer = self.handle(request)
        self._server_ns += time.thread_time_ns() - start
        protection._keys = client_keys
        self.requests += 1
        self.request_bytes = max(self.request_bytes, len(request))
        return answer

    def enroll(self) -> None:
        """One enrollment."""
        kind: Literal["ir", "cr"] = "ir" if self._case.protection == "mac" else "cr"
        self.session.enroll(_NAME, self._key, kind=kind, extensions=self.extensions)

    def run(self, count: int) -> Share:
        """CPU of one enrollment, over ``count``."""
        self._server_ns = 0
        start = time.thread_time_ns()
        for _ in range(count):
            self.enroll()
        total = time.thread_time_ns() - start
        return Share(
            client=(total - self._server_ns) / count / 1000,
            server=self._server_ns / count / 1000,
        )


class _Counter:
    """A profile function that counts what takes the GIL: returns from C, entries from C, and frees to come."""

    def __init__(self) -> None:
        self.count = 0
        self._stack: list[object] = []

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and getattr(argument, "__self__", None) is lib:
            self.count += 1
            self._stack.append(lib)
        elif event in {"c_return", "c_exception"} and getattr(argument, "__self__", None) is lib:
            self._stack.pop()
        elif event == "call":
            if self._stack and self._stack[-1] is lib:
                self.count += 1
                self._stack.append(frame)
            if frame.f_code is memory.own.__code__:
                self.count += 1
            elif frame.f_code is memory.give.__code__:
                self.count -= 1
        elif event == "return" and self._stack and self._stack[-1] is frame:
            self._stack.pop()


def crossings(case: Case, count: int = 10) -> float:
    """Crossings between Python and C that take the GIL, of both ends, for each message that is sent."""
    ends = Ends(case)
    ends.run(10)
    ends.requests = 0
    counter = _Counter()
    sys.setprofile(counter)
    try:
        for _ in range(count):
            ends.enroll()
    finally:
        sys.setprofile(None)
    return counter.count / (2 * ends.requests)
