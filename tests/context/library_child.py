"""A child process for ``test_library.py``: a client whose every algorithm comes from its own library.

The process's own library finds nothing at all, so whatever is fetched from there fails. Messages go to the parent and come
back over the standard streams. Prints ``done`` on stderr.
"""

import ctypes
import hashlib
import sys
from typing import Any


def _sha256(data: bytes = b"") -> Any:
    """The index of certificates in memory is no cryptography of a message: the interpreter's own code computes it."""
    return hashlib.new("sha256", data)  # falls back to it when OpenSSL says no


hashlib.sha256 = _sha256  # type: ignore[assignment]

import pytest  # noqa: E402
from cryptography.hazmat.primitives.serialization import Encoding  # noqa: E402

from opensslcmp import Context, Session, SharedSecret, Signer  # noqa: E402
from opensslcmp._native import _openssl  # noqa: E402
from opensslcmp.context.library import Library  # noqa: E402
from opensslcmp.errors import OpenSSLError  # noqa: E402


def _exchange(request: bytes) -> bytes:
    sys.stdout.buffer.write(len(request).to_bytes(4, "big") + request)
    sys.stdout.buffer.flush()
    return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "big"))


def main() -> None:
    """Enroll with a secret, update with the certificate, ask for information."""
    libcrypto = ctypes.CDLL(_openssl.__file__)
    assert libcrypto.EVP_set_default_properties(None, b"provider=nowhere") == 1
    with pytest.raises(OpenSSLError, match="SHA256"):
        Library()
    kind, secret = sys.argv[1:]
    library = Library(providers=["default"])
    context = Context(credential=SharedSecret("device", secret), library=library)
    first = Session(context, _exchange).enroll("CN=device", generate=kind)
    assert first.key is not None
    assert first.key.library is library
    anchor = first.ca_certificates[-1].public_bytes(Encoding.DER)
    signer = Signer(first.certificate, first.key, first.chain)
    context = Context(credential=signer, trusted=anchor, certificates_trusted=anchor, library=library)
    second = Session(context, _exchange).update(generate=kind)
    assert second.protection.signer is not None
    signer = Signer(second.certificate, second.key, second.chain)
    Session(Context(credential=signer, trusted=anchor, library=library), _exchange).ca_certificates()
    print("done", file=sys.stderr)


if __name__ == "__main__":
    main()
