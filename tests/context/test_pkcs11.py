"""Keys in a token: SoftHSM behind OpenSSL's provider pkcs11, where both are installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opensslcmp import PrivateKey, Signer
from opensslcmp._native import lib
from opensslcmp.errors import OpenSSLError
from tests.context import softhsm
from tests.context.issuing import device

WITH_TOKEN = pytest.mark.skipif(softhsm.missing() is not None, reason=softhsm.missing() or "")


@WITH_TOKEN
def test_keys_in_a_token_sign_are_made_there_and_never_leave_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.context.token_child", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
    assert softhsm.PIN not in done.stderr


@WITH_TOKEN
def test_a_process_whose_configuration_names_the_provider_needs_no_library(tmp_path: Path) -> None:
    card = softhsm.make(tmp_path)
    configuration = tmp_path / "openssl.cnf"
    configuration.write_text(
        "openssl_conf = a\n[a]\nproviders = b\n[b]\ndefault = c\npkcs11 = d\n[c]\nactivate = 1\n"
        f"[d]\npkcs11-module-path = {card.module}\npkcs11-module-quirks = no-deinit\nactivate = 1\n"
    )
    program = (
        "from opensslcmp import PrivateKey\n"
        f"uri = {card.uri('key')!r}\n"
        "made = PrivateKey.generate('ec:P-256', uri=uri)\n"
        "assert PrivateKey.load(uri).public_key_der == made.public_key_der\n"
        "print(len(made.sign(b'data')) > 60)\n"
    )
    environment = os.environ | card.environment | {"OPENSSL_CONF": str(configuration)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


@pytest.mark.parametrize("uri", ["pkcs11:token=t;object=o?pin-value=739264", "pkcs11:token=t?pin-source=file:/739264"])
def test_without_the_provider_the_error_says_what_to_load_and_no_pin(uri: str) -> None:
    for what in r"no provider pkcs11 is loaded", "no key is made in the token":
        with pytest.raises(OpenSSLError, match=what) as caught:
            PrivateKey.load(uri) if "provider" in what else PrivateKey.generate(uri=uri)
        assert "739264" not in str(caught.value)
        assert lib.ERR_peek_error() == 0
    assert "739264" not in repr(Signer(device(), uri))
