"""A child process for ``test_pkcs11.py``: what can be done with a token, in a process that meets SoftHSM for the first time.

Usage: python -m tests.context.token_child DIRECTORY

SoftHSM is one for the process and reads its configuration once, so each run has a process and a token of its own.
"""

import contextlib
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from opensslcmp import Context, PrivateKey, Session, SharedSecret, Signer
from opensslcmp.context.keys import verify_signature
from opensslcmp.context.library import Library
from opensslcmp.credentials import Password
from opensslcmp.errors import OpenSSLError
from opensslcmp.server import CA, open_responder
from opensslcmp.transport import InProcess
from tests.context import softhsm
from tests.context.softhsm import PIN, Token

KINDS = ["ec:P-256", "ec:P-384", "rsa:2048", "ed25519"]


def main() -> None:
    """Every claim in turn; the first that fails ends the process with its traceback."""
    directory = Path(sys.argv[1])
    card = softhsm.make(directory)
    os.environ.update(card.environment)
    a_wrong_pin_is_told_and_a_right_one_opens(card, directory)
    library = card.library()
    keys = {kind: PrivateKey.generate(kind, library=library, uri=card.uri(_name(kind))) for kind in KINDS}
    the_key_stays_in_the_token(card, library, keys)
    several_threads_sign(library, keys)
    a_client_and_a_ca_work_with_it(card, library, keys, directory)
    print("done")


def _name(kind: str) -> str:
    return kind.replace(":", "-")


def a_wrong_pin_is_told_and_a_right_one_opens(card: Token, directory: Path) -> None:
    """Before anyone has logged in."""
    library = card.library()
    wrong = directory / "wrong"
    wrong.write_text("000000")
    with pytest.raises(OpenSSLError, match="no key is made in the token") as caught:
        PrivateKey.generate(library=library, uri=f"pkcs11:token=opensslcmp;object=first?pin-source=file:{wrong}")
    assert "000000" not in str(caught.value)
    PrivateKey.generate(library=library, uri=card.uri("first"))
    for uri in (
        "pkcs11:token=opensslcmp;object=none;type=private",
        "pkcs11:token=none;object=first;type=private",
    ):
        with pytest.raises(OpenSSLError, match="nothing is found under this pkcs11 URI") as caught:
            PrivateKey.load(uri, PIN, library=library)
        assert PIN not in str(caught.value)
    with pytest.raises(OpenSSLError, match="no provider pkcs11 is loaded"):
        PrivateKey.load(card.uri("first"), library=Library(providers=["default"]))
    with pytest.raises(OpenSSLError, match="no provider pkcs11 is loaded"):
        PrivateKey.load(card.uri("first"))
    passwords: list[Password] = [PIN, PIN.encode(), lambda: PIN, card.pin_file]
    for password in passwords:
        assert PrivateKey.load(card.uri("first", pin=False), password, library=library).bits == 256
    with pytest.raises(OpenSSLError, match="no key is made") as caught:
        PrivateKey.generate("ec:P-256", library=library, uri=f"pkcs11:token=none;object=x?pin-value={PIN}")
    assert PIN not in str(caught.value)


def the_key_stays_in_the_token(card: Token, library: Library, keys: dict[str, PrivateKey]) -> None:
    """It signs, is found again, and its private part does not come out."""
    for kind, made in keys.items():
        again = PrivateKey.load(card.uri(_name(kind)), library=library)
        assert again.public_key_der == made.public_key_der
        for ours in made, again:
            algorithm = ours.signature_algorithm()
            verify_signature(ours.public_key_der, algorithm, b"data", ours.sign(b"data", algorithm), library=library)
            verify_signature(ours.public_key_der, algorithm, b"data", ours.sign(b"data", algorithm))
            with pytest.raises(OpenSSLError, match="does not leave its provider"):
                ours.to_pem()
            assert PIN not in repr(ours)
    ec, rsa = keys["ec:P-256"], keys["rsa:2048"]
    for ours, digest, pss in (
        (ec, "SHA512", False),
        (ec, "SHAKE128", False),
        (rsa, "SHA384", False),
        (rsa, "SHA256", True),
    ):
        algorithm = ours.signature_algorithm(digest, pss)
        verify_signature(ours.public_key_der, algorithm, b"data", ours.sign(b"data", algorithm))


def several_threads_sign(library: Library, keys: dict[str, PrivateKey]) -> None:
    """One key of the token in several threads at once."""
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for ours in (keys["ec:P-256"], keys["rsa:2048"]):
                algorithm = ours.signature_algorithm()
                for turn in range(10):
                    data = b"%d %d" % (number, turn)
                    signature = ours.sign(data, algorithm)
                    verify_signature(ours.public_key_der, algorithm, data, signature, library=library)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def a_client_and_a_ca_work_with_it(card: Token, library: Library, keys: dict[str, PrivateKey], directory: Path) -> None:
    """A CA whose key is in the token; devices whose keys are, as key objects, URIs and through providers=."""
    place = directory / "ca"
    ca = CA.create(place, key=keys["ec:P-384"])
    secret = SharedSecret("device", ca.add_secret("device"))
    ca.close()
    assert not (place / "ca.key").exists()
    with contextlib.closing(
        open_responder(place, key=PrivateKey.load(card.uri("ec-P-384"), library=library))
    ) as server:
        way = InProcess(server)
        providers: dict[str, Any] = {"default": {}, "pkcs11": {"pkcs11-module-path": card.module}}
        for kind in "ec:P-256", "rsa:2048", "ed25519":
            context = Context(credential=secret, certificates_trusted=ca.certificate, library=library)
            first = Session(context, way).enroll("CN=device", keys[kind])
            signer = Signer(first.certificate, card.uri(_name(kind), pin=False), first.chain, password=card.pin_file)
            assert PIN not in repr(signer)
            context = Context(credential=signer, trusted=ca.certificate, providers=providers)
            assert PIN not in repr(context)
            PrivateKey.generate(kind, library=context.library, uri=card.uri(f"next-{_name(kind)}"))
            renewed = Session(context, way).update(key=card.uri(f"next-{_name(kind)}"))
            assert renewed.key is not None
            assert renewed.key.library is context.library


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
