"""A child process for ``test_protection.py``: does every crossing give back the memory that it took?

Each operation runs until the caches are full, then some more: malloc's count of bytes in use must stand still. Python's
own small objects live elsewhere (pymalloc), so what grows here is libcrypto's.
"""

import contextlib
import ctypes
import dataclasses
import gc
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from opensslcmp.asn1 import admit
from opensslcmp.context.certificates import Trust, load_certificates
from opensslcmp.context.cipher import seal, unseal
from opensslcmp.context.cms import (
    PasswordRecipient,
    Recipient,
    open_enveloped,
    sign_data,
    verify_signed_data,
)
from opensslcmp.context.cms import seal as enveloped
from opensslcmp.context.keys import PrivateKey, verify_signature
from opensslcmp.context.library import Library
from opensslcmp.context.protection import MacProtector, SignatureProtector, verify
from opensslcmp.credentials import MacParameters, SharedSecret, Signer
from opensslcmp.errors import CMPError
from tests.context.issuing import INTER, INTER_KEY, NOW, ROOT, crl, der, device, key, message


class _Usage(ctypes.Structure):
    _fields_ = tuple(
        (field, ctypes.c_size_t)
        for field in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


_mallinfo2 = ctypes.CDLL(None).mallinfo2
_mallinfo2.restype = _Usage

SECRET = SharedSecret("reference", "correct horse", parameters=MacParameters(iterations=2))
PBMAC1 = MacProtector(SECRET, MacParameters(scheme="pbmac1", iterations=2))
SIGNERS = [SignatureProtector(Signer(device(kind), key(kind), [INTER])) for kind in ("ec", "rsa", "ed25519")]
PSS_SHAKE = SignatureProtector(Signer(device("rsa"), key("rsa"), digest="SHAKE256"))
SHAKE = SignatureProtector(Signer(device(), key(), digest="SHAKE128"))
PEM = PrivateKey.load(key()).to_pem("pass")
P12 = pkcs12.serialize_key_and_certificates(None, key(), device(), [INTER], BestAvailableEncryption(b"pass"))
TRUST = Trust(ROOT, untrusted=[INTER], crls=[crl("intermediate", INTER_KEY)])
LEAF = der(device())
SEALED = seal(bytes(32), b"secret")


def _signed(protector: SignatureProtector) -> None:
    protected = message(protector)
    verify(admit(protected), trust=TRUST)
    whole = admit(protected)
    broken = dataclasses.replace(whole, protected_part=whole.protected_part + b"\0")
    with contextlib.suppress(CMPError):
        verify(broken, trust=TRUST)


def _mac(protector: MacProtector) -> None:
    protected = admit(message(protector))
    verify(protected, secrets=lambda reference: b"correct horse")
    for wrong in {b"reference": b"wrong"}, {}:
        with contextlib.suppress(CMPError):
            verify(protected, secrets=wrong.get)


def _paths() -> None:
    TRUST.forget()
    TRUST.path(LEAF, [der(INTER), b"junk"])
    for at in NOW + timedelta(days=40), NOW - timedelta(days=40):
        with contextlib.suppress(CMPError):
            TRUST.path(LEAF, [der(INTER)], at)
    with contextlib.suppress(CMPError):
        Trust(device("ec384"), crls=[crl("root", INTER_KEY)]).path(LEAF)


def _loading() -> None:
    PrivateKey.load(PEM, "pass").public_key_der  # noqa: B018
    for data, password in ((PEM, "wrong"), (PEM, None), (b"junk", None), (P12, "wrong")):
        with contextlib.suppress(CMPError):
            PrivateKey.load(data, password)
    PrivateKey.load(P12, "pass").to_pem("other")
    load_certificates(P12, "pass")


def _verification() -> None:
    fresh = PrivateKey.generate("ed25519")
    identifier = fresh.signature_algorithm()
    for spki in fresh.public_key_der, fresh.public_key_der[:-1], SIGNERS[0].key.public_key_der:
        with contextlib.suppress(CMPError):
            verify_signature(spki, identifier, b"data", fresh.sign(b"data"), keep=False)
    rsa = SIGNERS[1].key
    for pss in False, True:
        method = rsa.signature_algorithm("SHA256", pss=pss)
        verify_signature(rsa.public_key_der, method, b"data", rsa.sign(b"data", method), keep=False)


def _sealing() -> None:
    unseal(bytes(32), seal(bytes(32), b"secret"))
    with contextlib.suppress(CMPError):
        unseal(bytes(32), SEALED[:-1])


RECIPIENTS = [
    (PrivateKey.load(key("rsa")), Recipient.of(der(device("rsa")))),
    (PrivateKey.load(key("rsa")), Recipient.of(der(device("rsa")), "pkcs1")),
    (PrivateKey.load(key("rsa")), Recipient.of(der(device("rsa")), "kem")),
    (PrivateKey.load(key()), Recipient.of(LEAF)),
    (PrivateKey.generate("x25519"), Recipient.of(LEAF)),
]
PASSWORD = PasswordRecipient(secret=b"secret", iterations=2)


def _envelopes() -> None:
    for own, recipient in RECIPIENTS:
        with contextlib.suppress(CMPError):
            open_enveloped(enveloped(b"secret", recipient), own)
    sealed = enveloped(b"secret", PASSWORD)
    for secret in b"secret", b"wrong", PrivateKey.load(PEM, "pass"):
        with contextlib.suppress(CMPError):
            open_enveloped(sealed, secret)
    signed = sign_data("1.2.3", b"data", SIGNERS[0].key, LEAF, [der(INTER)])
    verify_signed_data(signed, content_type="1.2.3", trust=TRUST)


TURNS = 25


def _libraries() -> None:
    """One that comes and goes with what it fetched and decoded."""
    library = Library(private=True)
    ours = PrivateKey.load(PEM, "pass", library=library)
    signature = ours.sign(b"data")
    verify_signature(ours.public_key_der, ours.signature_algorithm(), b"data", signature, library=library)


OPERATIONS: dict[str, Callable[[], Any]] = {
    "pbm": lambda: _mac(MacProtector(SECRET)),
    "pbmac1": lambda: _mac(PBMAC1),
    "ec": lambda: _signed(SIGNERS[0]),
    "rsa": lambda: _signed(SIGNERS[1]),
    "ed25519": lambda: _signed(SIGNERS[2]),
    "shake": lambda: _signed(SHAKE),
    "paths": _paths,
    "loading": _loading,
    "verification": _verification,
    "sealing": _sealing,
    "envelopes": _envelopes,
    "libraries": _libraries,
    "pss with shake": lambda: _signed(PSS_SHAKE),
}


def _grown(operation: Callable[[], Any], turns: int) -> int:
    gc.collect()
    before = _mallinfo2().uordblks
    for _ in range(turns):
        operation()
    gc.collect()
    return int(_mallinfo2().uordblks) - int(before)


def main() -> int:
    failed = 0
    for name, operation in OPERATIONS.items():
        # The slots of the error queue keep their texts, caches fill: that ends. A leak grows in every round.
        for _ in range(30):
            growth = _grown(operation, TURNS)
            if growth < TURNS:
                break
        else:
            print(f"{name}: {growth} bytes in {TURNS} turns")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
