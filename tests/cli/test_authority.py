"""What an operator of a CA does, with real processes on one directory."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.asn1 import ErrorMsgContent, PKIStatusInfo
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from opensslcmp.server import CA, open_responder
from opensslcmp.server.approval import Approval
from tests.cli.conftest import CLI
from tests.server.device import KEYS, certificate_of, crmf, extension, mac_device, poll_request, status_of
from tests.server.web_client import environment, exchange, running

SECRET = {"SECRET": "correct horse"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def opensslcmp(*arguments: object, code: int = 0) -> str:
    """What a command of a process of its own says to stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "opensslcmp", *map(str, arguments)],
        env=environment() | SECRET,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def verify(directory: Path, certificate: Path) -> str:
    """What OpenSSL says of a certificate, with the CRL that it names."""
    command = ["openssl", "verify", "-crl_check", "-crl_download", "-CAfile", "ca/ca.pem", str(certificate)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_openssl_finds_the_crl_at_the_url_in_the_certificate(tmp_path: Path) -> None:
    port = free_port()
    ca = tmp_path / "ca"
    opensslcmp("ca", "init", ca, "--crl-url", f"http://127.0.0.1:{port}/pki/devices.crl")
    opensslcmp("ca", "secret", ca, "device", "--secret", "env:SECRET")
    with running("-m", "opensslcmp", "serve", str(ca), "--port", str(port), "--workers", "2") as (url, host, _):
        certificate = tmp_path / "device.pem"
        by_secret = ("--ref", "device", "--secret", "env:SECRET", "--newkey", "ec:P-256")
        key = tmp_path / "device.key"
        opensslcmp(
            "enroll",
            "--server",
            url,
            *by_secret,
            "--subject",
            "/CN=device",
            "--newkeyout",
            key,
            "--certout",
            certificate,
        )
        points = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions.get_extension_for_class(
            x509.CRLDistributionPoints
        )
        assert points.value[0].full_name == [x509.UniformResourceIdentifier(f"http://127.0.0.1:{port}/pki/devices.crl")]
        assert verify(tmp_path, certificate) == "device.pem: OK\n".replace("device.pem", str(certificate))
        credential = ("--cert", certificate, "--key", key, "--trusted", ca / "ca.pem")
        opensslcmp("revoke", "--server", url, *credential, "--revreason", "keyCompromise")
        assert "certificate revoked" in verify(tmp_path, certificate)
        with socket.create_connection((host, port), 10) as connection:
            get = b"GET /crl HTTP/1.1\r\nHost: localhost\r\n"
            status, headers, crl = exchange(connection, get + b"\r\n")
            assert status == 200
            assert len(x509.load_der_x509_crl(crl)) == 1
            status, _, body = exchange(connection, get + f"If-None-Match: {headers['etag']}\r\n\r\n".encode())
            assert (status, body) == (304, b"")


@pytest.mark.parametrize("url", ["nonsense", "http://ca.example"])
def test_a_crl_url_that_is_none_is_refused(cli: CLI, tmp_path: Path, url: str) -> None:
    result = cli("ca", "init", tmp_path / "ca", "--crl_url", url)
    assert result.code == 2
    assert "crl_url" in result.err
    assert not (tmp_path / "ca").exists()


# -- certificates ----------------------------------------------------------------------------------------------------


@pytest.fixture
def issued(tmp_path: Path) -> tuple[Path, list[str]]:
    """A CA with two certificates, the second in the place of the first, and their serial numbers."""
    CA.create(tmp_path / "ca").close()
    with closing(open_responder(tmp_path / "ca")) as responder:
        authority: Any = responder.authority
        authority.add_secret("device", "secret")
        device = mac_device(responder.handle, time.time)
        first = device.enroll(KEYS[0])
        signing = device.signing(first, KEYS[0])
        second = certificate_of(signing.ask(BodyType.KUR, crmf(KEYS[1], old=first)))
        signing.confirm(second)
    return tmp_path / "ca", [f"{x509.load_der_x509_certificate(each).serial_number:x}" for each in (first, second)]


def test_certificates_are_listed_and_shown_with_their_updates(cli: CLI, issued: tuple[Path, list[str]]) -> None:
    directory, (first, second) = issued
    told = json.loads(cli("ca", "list", directory, "--json").out)
    assert [(each["serial"], each["state"], each["subject"]) for each in told] == [
        (first, "updated", "CN=device"),
        (second, "valid", "CN=device"),
    ]
    lines = cli("ca", "list", directory).out.splitlines()
    assert [line.split()[:2] for line in lines] == [[first, "updated"], [second, "valid"]]
    shown = json.loads(cli("ca", "show", directory, first, "--json").out)
    assert (shown["updates"], shown["updated_by"], shown["issued_to"]) == (None, [second], "mac:device")
    colons = ":".join(second[at : at + 2] for at in range(0, len(second), 2)).upper()
    result = cli("ca", "show", directory, colons)
    assert f"updates: {first}" in result.out
    assert x509.load_pem_x509_certificate(result.out[result.out.index("-----BEGIN") :].encode())


def test_the_operator_holds_releases_and_revokes(cli: CLI, issued: tuple[Path, list[str]], tmp_path: Path) -> None:
    directory, (_, serial) = issued

    def revoked() -> int:
        assert cli("ca", "crl", directory, "--out", tmp_path / "now.crl").code == 0
        return len(x509.load_pem_x509_crl((tmp_path / "now.crl").read_bytes()))

    assert revoked() == 0
    assert "put on hold" in cli("ca", "revoke", directory, serial, "--reason", "certificateHold").err
    assert revoked() == 1
    assert "released" in cli("ca", "revoke", directory, serial, "--reason", "removefromcrl").err
    assert revoked() == 0
    told = json.loads(cli("ca", "revoke", directory, serial, "--reason", "keyCompromise", "--json").out)
    assert (told["state"], told["reason"]) == ("revoked", "keyCompromise")
    assert "revoked (keyCompromise)" in cli("ca", "list", directory).out
    again = cli("ca", "revoke", directory, serial)
    assert (again.code, "revoked already" in again.err) == (7, True)
    told = json.loads(cli("ca", "crl", directory, "--out", tmp_path / "now.crl", "--der", "--json").out)
    assert told["revoked"] == 1
    crl = x509.load_der_x509_crl((tmp_path / "now.crl").read_bytes())
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == told["number"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("show", "1234"), 7), (("revoke", "1234"), 7), (("show", "nonsense"), 2), (("approve", "1234"), 7),
     (("reject", "1234"), 7)],
)  # fmt: skip
def test_what_is_not_there_is_an_error_in_words(
    cli: CLI, issued: tuple[Path, list[str]], arguments: tuple[str, str], code: int
) -> None:
    result = cli("ca", arguments[0], issued[0], arguments[1])
    assert result.code == code
    assert arguments[1] in result.err


def test_an_unknown_reason_is_a_usage_error(cli: CLI, issued: tuple[Path, list[str]]) -> None:
    assert cli("ca", "revoke", issued[0], issued[1][0], "--reason", "boredom").code == 2


# -- approval --------------------------------------------------------------------------------------------------------


def wait_for(ask: Callable[[], Any]) -> Any:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if found := ask():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_an_operator_approves_and_rejects_while_the_server_runs_and_clients_poll(tmp_path: Path) -> None:
    ca = tmp_path / "ca"
    opensslcmp("ca", "init", ca)
    opensslcmp("ca", "secret", ca, "device", "--secret", "env:SECRET")
    with running("-m", "opensslcmp", "serve", str(ca), "--port", "0", "--approval", "manual", "--workers", "2") as (
        url,
        host,
        port,
    ):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "new.key")
        subprocess.run(
            ["openssl", "req", "-new", *key, "-out", "new.csr", "-subj", "/CN=openssl"],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
        theirs = subprocess.Popen(
            ["openssl", "cmp", "-config", "", "-server", f"{host}:{port}", "-path", ".well-known/cmp", "-cmd", "ir",
             "-ref", "device", "-secret", "env:SECRET", "-newkey", "new.key", "-subject", "/CN=openssl",
             "-certout", "cert.pem"],
            cwd=tmp_path, env=os.environ | SECRET, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        ours = subprocess.Popen(
            [sys.executable, "-m", "opensslcmp", "enroll", "--server", url, "--ref", "device", "--secret", "env:SECRET",
             "--subject", "/CN=ours", "--newkey", "ec:P-256", "--newkeyout", str(tmp_path / "ours.key"), "--certout",
             str(tmp_path / "ours.pem"), "--json"],
            env=environment() | SECRET, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

        def both() -> dict[str, str]:
            told = json.loads(opensslcmp("ca", "pending", ca, "--json"))
            return {each["subject"]: each["id"] for each in told} if len(told) == 2 else {}

        ids = wait_for(both)
        assert ids.keys() == {"CN=openssl", "CN=ours"}
        opensslcmp("ca", "approve", ca, ids["CN=openssl"])
        opensslcmp("ca", "reject", ca, ids["CN=ours"], "--reason", "no such device")
        opensslcmp("ca", "reject", ca, ids["CN=openssl"], code=7)
        assert opensslcmp("ca", "pending", ca) == ""
        out, _ = ours.communicate(timeout=40)
        assert theirs.wait(40) == 0
        assert ours.returncode == 3
        error = json.loads(out)["error"]
        assert (error["failures"], error["status_text"]) == (["notAuthorized"], ["no such device"])
        certificate = x509.load_pem_x509_certificate((tmp_path / "cert.pem").read_bytes())
        assert certificate.subject.rfc4514_string() == "CN=openssl"
        assert not (tmp_path / "ours.pem").exists()
        assert [each["subject"] for each in json.loads(opensslcmp("ca", "list", ca, "--json"))] == ["CN=openssl"]


def test_only_new_certificates_wait_and_bad_requests_are_refused_at_once(cli: CLI, tmp_path: Path) -> None:
    CA.create(tmp_path / "ca").close()
    with closing(open_responder(tmp_path / "ca", approval=True)) as responder:
        authority: Any = responder.authority
        assert isinstance(authority, Approval)
        authority.add_secret("device", "secret")
        device = mac_device(responder.handle, time.time)
        bad = device.ask(BodyType.IR, crmf(KEYS[0], signing_key=KEYS[1]))
        assert status_of(bad).failures == (FailureInfo.BAD_POP,)
        bad = device.ask(BodyType.IR, crmf(KEYS[0], "CN=CMP CA"))
        assert status_of(bad).failures == (FailureInfo.BAD_CERT_TEMPLATE,)
        assert cli("ca", "pending", tmp_path / "ca").out == ""
        san = x509.SubjectAlternativeName([x509.DNSName("device.example"), x509.UniformResourceIdentifier("urn:x")])
        waiting = device.ask(BodyType.IR, crmf(KEYS[0], extensions=[extension(san)]))
        assert status_of(waiting).status == PKIStatus.WAITING
        line = cli("ca", "pending", tmp_path / "ca").out
        assert "CN=device (DNS:device.example, URI:urn:x)  from device" in line
        assert cli("ca", "approve", tmp_path / "ca", line.split()[0]).code == 0
        certificate = certificate_of(device.send(BodyType.POLL_REQ, poll_request()))
        device.confirm(certificate)
        signing = device.signing(certificate, KEYS[0])
        certificate_of(signing.ask(BodyType.KUR, crmf(KEYS[1], old=certificate)))


def test_who_gave_up_is_not_waited_for(cli: CLI, tmp_path: Path) -> None:
    CA.create(tmp_path / "ca").close()
    with closing(open_responder(tmp_path / "ca", approval=True)) as responder:
        authority: Any = responder.authority
        authority.add_secret("device", "secret")
        device = mac_device(responder.handle, time.time)
        device.ask(BodyType.IR, crmf(KEYS[0]))
        application = cli("ca", "pending", tmp_path / "ca").out.split()[0]
        content = ErrorMsgContent(pki_status_info=PKIStatusInfo.make(PKIStatus.REJECTION))
        assert device.send(BodyType.ERROR, content).body_type is BodyType.PKICONF
    assert cli("ca", "pending", tmp_path / "ca").out == ""
    assert cli("ca", "approve", tmp_path / "ca", application).code == 7


def test_an_approval_of_another_kind_is_a_usage_error(cli: CLI, tmp_path: Path) -> None:
    assert cli("serve", tmp_path, "--approval", "sometimes").code == 2
