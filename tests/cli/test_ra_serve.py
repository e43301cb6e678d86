"""A registration authority by its file of settings: before our CA and before OpenSSL's mock server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from opensslcmp.cli.main import EXAMPLES
from opensslcmp.client.context import Context
from opensslcmp.client.pending import Pending
from opensslcmp.client.session import Session
from opensslcmp.context.protection import ProtectionKind
from opensslcmp.credentials import SharedSecret
from opensslcmp.errors import Rejected
from opensslcmp.server.ca import CA
from tests.cli.conftest import CLI
from tests.server.web_client import environment, running

SECRET = "known to the registration authority"


@dataclass
class Site:
    """A CA in a directory, and a registration authority in another."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "ra" / "ra.toml"

    def write(self, url: str, mode: str = "replace", more: str = "") -> Path:
        """The settings of the registration authority."""
        place = f"upstream = ['{url}']\n" if url else ""
        self.config.write_text(
            f"[ra]\nmode = '{mode}'\n{place}certificate = 'ra.pem'\nkey = 'ra.key'\ntrusted = ['ca.pem']\n{more}"
        )
        return self.config

    def state(self, certificate: x509.Certificate) -> str:
        """Of a certificate at our CA."""
        ca = CA.open(self.directory / "ca")
        try:
            record = ca.find(certificate.serial_number)
            return "unknown" if record is None else record.state.name
        finally:
            ca.close()


def openssl(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", *arguments],
        cwd=where,
        env=os.environ | {"SECRET": SECRET},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Our CA, which knows the certificate of the registration authority."""
    ca = CA.create(tmp_path / "ca", "CN=Test CA,O=Test")
    ca.add_secret("entity", SECRET)
    ca.close()
    made = tmp_path / "ra"
    made.mkdir()
    (made / "ca.pem").write_bytes((tmp_path / "ca" / "ca.pem").read_bytes())
    signed_by(made, tmp_path / "ca")
    (tmp_path / "ca" / "opensslcmp.toml").write_text("[authorisation]\nregistration_authorities = ['../ra/ra.pem']\n")
    return Site(tmp_path)


def signed_by(directory: Path, ca: Path) -> None:
    """ra.pem and ra.key, under a CA's key."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    by = ("-CA", str(ca / "ca.pem"), "-CAkey", str(ca / "ca.key"))
    for arguments in (
        ("req", "-new", *key, "-out", "ra.csr", "-keyout", "ra.key", "-subj", "/CN=RA"),
        ("x509", "-req", "-in", "ra.csr", *by, "-out", "ra.pem", "-days", "9", "-set_serial", "77"),
    ):
        assert openssl(directory, *arguments).returncode == 0


@contextmanager
def our_ca(site: Site) -> Iterator[str]:
    with running("-m", "opensslcmp", "serve", str(site.directory / "ca"), "--port", "0") as (url, _, _):
        yield url


@contextmanager
def our_ra(config: Path) -> Iterator[str]:
    with running("-m", "opensslcmp", "ra", "serve", str(config), "--port", "0") as (url, _, _):
        yield url


def entity(url: str, site: Site, reference: str = "device") -> Session:
    context = Context(url, credential=SharedSecret(reference, SECRET), trusted=[site.directory / "ra" / "ca.pem"])
    return Session(context)


def give_secret(cli: CLI, site: Site, reference: str = "device") -> None:
    result = cli("ra", "secret", site.config, reference, "--secret", "env:SECRET", env={"SECRET": SECRET})
    assert result.code == 0, result.err


def test_openssl_gets_renews_and_revokes_through_the_ra(site: Site, cli: CLI) -> None:
    with our_ca(site) as upstream:
        give_secret(cli, Site(site.write(upstream).parents[1]))
        with our_ra(site.config) as url:
            where = site.directory / "ra"
            server = url.removeprefix("http://").partition("/")[0]
            place = ("cmp", "-config", "", "-server", server, "-path", ".well-known/cmp")
            for name in ("first.key", "second.key"):
                made = openssl(
                    where, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", name
                )
                assert made.returncode == 0
            by_secret = ("-ref", "device", "-secret", "env:SECRET")
            request = ("-newkey", "first.key", "-subject", "/CN=device", "-certout", "first.pem")
            done = openssl(where, *place, "-cmd", "ir", *by_secret, *request, "-cacertsout", "got.pem")
            assert done.returncode == 0, done.stderr
            by_cert = ("-cert", "first.pem", "-key", "first.key", "-trusted", "ca.pem")
            for arguments in (
                ("-cmd", "genm", *by_cert, "-infotype", "caCerts", "-cacertsout", "cas.pem"),
                ("-cmd", "kur", *by_cert, "-newkey", "second.key", "-certout", "second.pem"),
                ("-cmd", "rr", *by_cert, "-oldcert", "second.pem", "-cert", "second.pem", "-key", "second.key"),
            ):
                done = openssl(where, *place, *arguments)
                assert done.returncode == 0, done.stderr
    for name, state in (("first.pem", "VALID"), ("second.pem", "REVOKED")):
        assert site.state(x509.load_pem_x509_certificate((where / name).read_bytes())) == state


def test_a_ca_that_is_down_is_system_unavail_and_the_ra_starts_without_it(site: Site, cli: CLI) -> None:
    site.write("http://127.0.0.1:1/")
    give_secret(cli, site)
    with our_ra(site.config) as url, pytest.raises(Rejected, match="systemUnavail"):
        entity(url, site).enroll("CN=device", generate="ec:P-256")


def test_what_waits_outlives_the_ra(site: Site, cli: CLI) -> None:
    key = site.directory / "device.key"
    assert openssl(site.directory, "genpkey", "-algorithm", "ed25519", "-out", str(key)).returncode == 0
    ca = ("serve", str(site.directory / "ca"), "--port", "0", "--approval", "manual")
    with running("-m", "opensslcmp", *ca) as (upstream, _, _):
        give_secret(cli, Site(site.write(upstream, more="check_after_seconds = 1\n").parents[1]))
        command = [sys.executable, "-m", "opensslcmp", "ra", "serve", str(site.config), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            pending = entity(url, site).enroll("CN=device", key, wait=False)
            assert isinstance(pending, Pending)
            process.send_signal(signal.SIGKILL)
        number = cli("ca", "pending", site.directory / "ca").out.split()[0]
        assert cli("ca", "approve", site.directory / "ca", number).code == 0
        with our_ra(site.config) as url:
            saved = Pending.load(pending.save())
            issued = entity(url, site).resume(saved, key)
    assert site.state(issued.certificate) == "VALID"  # type: ignore[union-attr]


def test_before_the_mock_server_of_openssl(tmp_path: Path, pki: Path, mock: Callable[..., str], cli: CLI) -> None:
    site = Site(tmp_path)
    (tmp_path / "ra").mkdir()
    (tmp_path / "ra" / "ca.pem").write_bytes((pki / "ca.pem").read_bytes())
    (tmp_path / "ra" / "secret").write_text("s1\n")
    signed_by(tmp_path / "ra", pki)
    place = mock("-poll_count", "1", "-check_after", "1")
    more = "reference = 'r1'\nsecret_file = 'secret'\ncheck_after_seconds = 1\n"
    site.write(f"http://{place}/", more=more)
    give_secret(cli, site)
    with our_ra(site.config) as url:
        issued = entity(url, site).enroll("/O=Test/CN=new", pki / "new.key")
    assert issued.certificate == x509.load_pem_x509_certificate((pki / "new.pem").read_bytes())
    assert issued.protection.kind is ProtectionKind.MAC


SIGNS = """#!/bin/sh
test -n "$TRANSACTION" || exit 9
exec openssl x509 -req -CA {ca}/ca.pem -CAkey {ca}/ca.key -days 9 -set_serial 0x5a5a 2>/dev/null
"""


def test_before_a_ca_that_knows_only_pkcs10(site: Site, cli: CLI) -> None:
    command = site.directory / "sign"
    command.write_text(SIGNS.format(ca=site.directory / "ca"))
    command.chmod(0o755)
    site.write("", "pkcs10", f"command = ['{command}']\n")
    give_secret(cli, site)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "k.key")
    assert openssl(site.directory, "req", "-new", *key, "-out", "k.csr", "-subj", "/CN=device").returncode == 0
    with our_ra(site.config) as url:
        issued = entity(url, site).enroll_csr((site.directory / "k.csr").read_bytes())
        assert issued.certificate.serial_number == 0x5A5A
        with pytest.raises(Rejected, match="p10cr"):
            entity(url, site).enroll("CN=device", generate="ec:P-256")


def test_batches_go_up_for_who_is_in_the_inventory_of_the_file(site: Site, cli: CLI) -> None:
    (site.directory / "ra" / "devices.csv").write_text("reference,subject\nentity,CN=device-*\n")
    with our_ca(site) as upstream:
        site.write(upstream, "batch", "[inventory]\ncsv = 'devices.csv'\n")
        give_secret(cli, site, "entity")  # which the CA knows too, and verifies
        with our_ra(site.config) as url:
            issued = entity(url, site, "entity").enroll("CN=device-1", generate="ec:P-256")
            with pytest.raises(Rejected, match="not in the inventory"):
                entity(url, site, "entity").enroll("CN=toaster", generate="ec:P-256")
    assert site.state(issued.certificate) == "VALID"


def test_check_says_what_is_wrong_with_file_line_and_key(site: Site, cli: CLI) -> None:
    site.write("http://127.0.0.1:1/")
    assert cli("ra", "serve", site.config, "--check").code == 0
    site.write("http://127.0.0.1:1/", more="colour = 'red'\nwait_seconds = 0\n")
    result = cli("ra", "serve", site.config, "--check")
    assert result.code == 7
    assert "ra.toml:7" in result.err
    assert "colour" in result.err
    site.write("", more="reference = 'r1'\n")
    result = cli("ra", "serve", site.config, "--check")
    assert "upstream is needed" in result.err
    assert "secret_file is needed" in result.err
    assert cli("ra", "serve", site.directory / "none.toml").code == 7


def test_secrets_are_made_listed_once_and_forgotten(site: Site, cli: CLI) -> None:
    site.write("http://127.0.0.1:1/")
    result = cli("ra", "secret", site.config, "device-1")
    assert len(result.out.strip()) == 20
    assert cli("ra", "secret", site.config, "device-2", "--json").out.startswith("{")
    assert cli("ra", "secret", site.config, "device-1", "--remove").code == 0
    assert cli("ra", "secret", site.config, "device-1", "--remove").code == 7
    assert cli("ra", "secret", site.config, "x", "--remove", "--single_use").code == 2


def test_the_examples_of_the_help_are_commands_of_ours() -> None:
    assert EXAMPLES["ra serve"] == "opensslcmp ra serve my-ra/ra.toml --port 8081"
    assert EXAMPLES["ra secret"] == "opensslcmp ra secret my-ra/ra.toml device-1"


@contextmanager
def also_by_coap(config: Path) -> Iterator[tuple[str, str]]:
    """The URLs of a registration authority that is reached by HTTP and by CoAP."""
    command = [sys.executable, "-m", "opensslcmp", "ra", "serve", str(config), "--port", "0", "--coap", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            urls = [process.stdout.readline().removeprefix("listening on ").strip() for _ in range(2)]
            yield urls[0], urls[1]
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_it_is_the_proxy_between_coap_and_http_and_stands_before_another_one(site: Site, cli: CLI) -> None:
    pytest.importorskip("aiocoap")
    first = site.directory / "proxy"
    first.mkdir()
    for name in ("ra.pem", "ra.key", "ca.pem"):
        (first / name).write_bytes((site.directory / "ra" / name).read_bytes())
    with our_ca(site) as upstream:
        give_secret(cli, Site(site.write(upstream).parents[1]))
        with our_ra(site.config) as second:
            (first / "ra.toml").write_text(
                f"[ra]\nmode = 'forward'\nupstream = ['{second}']\ncertificate = 'ra.pem'\nkey = 'ra.key'\n"
                "trusted = ['ca.pem']\n"
            )
            with also_by_coap(first / "ra.toml") as (_, url):
                assert url.startswith("coap://")
                issued = entity(url, site).enroll("CN=device", generate="ec:P-256")
    assert site.state(issued.certificate) == "VALID"


def test_an_upstream_without_a_transport_is_refused(site: Site, cli: CLI) -> None:
    site.write("gopher://127.0.0.1/")
    result = cli("ra", "serve", site.config, "--check")
    assert result.code == 7
    assert "upstream has what is no URL" in result.err
