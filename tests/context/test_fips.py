"""OpenSSL's FIPS provider, where it is installed: a context that uses nothing else."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opensslcmp import Context, Library, OpenSSLError, PrivateKey, Session, SharedSecret, Signer
from opensslcmp.credentials import MacParameters
from opensslcmp.server import CA, open_responder
from opensslcmp.transport import InProcess

MODULE = next(Path("/usr/lib").glob("*/ossl-modules/fips.so"), None)
pytestmark = pytest.mark.skipif(
    MODULE is None, reason="the FIPS provider is not installed (Debian 13: openssl-provider-fips; Debian 12 has none)"
)


@pytest.fixture(scope="module")
def fips_settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenSSL's configuration with the FIPS provider, set up as fips_module(7) says, and OpenSSL's encoders."""
    place = tmp_path_factory.mktemp("fips")
    tool = shutil.which("openssl")
    assert tool is not None
    command = [tool, "fipsinstall", "-module", str(MODULE), "-out", str(place / "fips.cnf")]
    subprocess.run(command, capture_output=True, check=True)
    (place / "openssl.cnf").write_text(
        "openssl_conf = a\n[a]\nproviders = b\n[b]\nfips = fips_sect\nbase = c\n[c]\nactivate = 1\n"
        f".include {place / 'fips.cnf'}\n"
    )
    return place / "openssl.cnf"


@pytest.fixture(scope="module")
def fips(fips_settings: Path) -> Library:
    """The FIPS provider, and nothing else."""
    return Library(config=fips_settings, properties="fips=yes")


@pytest.mark.parametrize("kind", ["ec:P-256", "rsa:2048", "ed25519"])
@pytest.mark.parametrize("scheme", ["pbm", "pbmac1"])
def test_a_whole_life_of_a_certificate_within_fips(fips: Library, kind: str, scheme: str, tmp_path: Path) -> None:
    ca = CA.create(tmp_path / "ca")
    secret = SharedSecret("device", ca.add_secret("device"), parameters=MacParameters(scheme=scheme))
    ca.close()
    with contextlib.closing(open_responder(tmp_path / "ca")) as responder:
        way = InProcess(responder)
        context = Context(credential=secret, certificates_trusted=ca.certificate, library=fips)
        first = Session(context, way).enroll("CN=device", generate=kind)
        signer = Signer(first.certificate, first.key, first.chain)
        context = Context(credential=signer, trusted=ca.certificate, library=fips)
        assert Session(context, way).update(generate=kind).protection.signer is not None


def test_what_is_not_approved_is_not_found(fips: Library) -> None:
    assert set(fips.providers) == {"fips", "base"}
    with pytest.raises(OpenSSLError):
        PrivateKey.generate("ec:brainpoolP256r1", library=fips)


def test_the_short_form_is_all_that_a_process_set_up_for_fips_needs(fips_settings: Path) -> None:
    code = (
        "from opensslcmp import Context, PrivateKey, SharedSecret, OpenSSLError\n"
        "context = Context('http://ca.example/cmp', credential=SharedSecret('d', 'a secret of some length'),"
        " properties='fips=yes')\n"
        "print(len(PrivateKey.generate('ec:P-256', library=context.library).public_key_der))\n"
        "try:\n"
        "    PrivateKey.generate('ec:brainpoolP256r1', library=context.library)\n"
        "except OpenSSLError:\n"
        "    print('not approved')\n"
    )
    environment = os.environ | {"OPENSSL_CONF": str(fips_settings)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["91", "not", "approved"]


def test_the_short_form_says_what_is_missing_where_fips_is_not_set_up() -> None:
    with pytest.raises(OpenSSLError, match=r"fips=yes"):
        Context(credential=SharedSecret("d", "a secret of some length"), properties="fips=yes")
