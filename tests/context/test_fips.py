"""OpenSSL's FIPS provider, where it is installed: a context that uses nothing else."""

import contextlib
import shutil
import subprocess
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
def fips(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The FIPS provider, set up as fips_module(7) says, and OpenSSL's encoders."""
    place = tmp_path_factory.mktemp("fips")
    tool = shutil.which("openssl")
    assert tool is not None
    command = [tool, "fipsinstall", "-module", str(MODULE), "-out", str(place / "fips.cnf")]
    subprocess.run(command, capture_output=True, check=True)
    (place / "openssl.cnf").write_text(
        "openssl_conf = a\n[a]\nproviders = b\n[b]\nfips = fips_sect\nbase = c\n[c]\nactivate = 1\n"
        f".include {place / 'fips.cnf'}\n"
    )
    return Library(config=place / "openssl.cnf", properties="fips=yes")


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
