"""A SoftHSM token for the tests of PKCS #11, and why there is none."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from opensslcmp.context.library import Library
from opensslcmp.errors import OpenSSLError

PIN = "739264"
_MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")


@dataclass(frozen=True)
class Token:
    """A new token.

    Attributes:
        module: path of SoftHSM's library.
        pin_file: holds the PIN.
        environment: names its configuration; for child processes too.
    """

    module: str
    pin_file: Path
    environment: dict[str, str]

    def uri(self, name: str, *, pin: bool = True) -> str:
        """Of the private key with this name."""
        return f"pkcs11:token=opensslcmp;object={name};type=private" + (
            f"?pin-source=file:{self.pin_file}" if pin else ""
        )

    def library(self) -> Library:
        """One with the token's provider."""
        return Library(providers={"default": {}, "pkcs11": {"pkcs11-module-path": self.module}})


def missing() -> str | None:
    """Why there can be no token here; None when there can."""
    if module() is None or shutil.which("softhsm2-util") is None:
        return "SoftHSM is not installed (Debian: softhsm2)"
    return _no_provider()


@cache
def _no_provider() -> str | None:
    path = module()
    assert path is not None
    try:
        Library(providers={"default": {}, "pkcs11": {"pkcs11-module-path": path}})
    except OpenSSLError:
        return "OpenSSL's provider pkcs11 is not installed (Debian 13: pkcs11-provider; Debian 12 does not have it)"
    return None


def module() -> str | None:
    """The path of SoftHSM's library."""
    return next((path for path in _MODULES if Path(path).exists()), None)


def make(directory: Path) -> Token:
    """A new token below ``directory``, which this process sees too."""
    path = module()
    assert path is not None
    (directory / "tokens").mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {directory / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    pin_file = directory / "pin"
    pin_file.write_text(PIN)
    environment = {"SOFTHSM2_CONF": str(configuration)}
    command = ["softhsm2-util", "--init-token", "--free", "--label", "opensslcmp", "--pin", PIN, "--so-pin", "81234567"]
    subprocess.run(command, env=os.environ | environment, capture_output=True, check=True)
    return Token(path, pin_file, environment)
