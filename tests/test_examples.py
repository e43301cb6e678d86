"""The examples of clients: each does what it says."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from opensslcmp.server import CA
from tests.server.web_client import running

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ran(name: str, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])} | environment
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments],
        input=given,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_acme_handler_enrolls_and_revokes() -> None:
    done = ran("ca_handler")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("BEGIN CERTIFICATE") == 2
    assert "revoked: (200, None, None)" in done.stdout


def test_the_device_gets_its_first_certificate_and_renews_it() -> None:
    done = ran("device_bootstrap")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0].strip(":") for line in done.stdout.splitlines()] == ["issued", "good", "renewed"]


def test_the_enrollment_service_issues_and_refuses() -> None:
    pytest.importorskip("fastapi")
    done = ran("enrollment_service")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("200 -----BEGIN CERTIFICATE")
    assert done.stdout.splitlines()[-1] == "422"


def test_the_ansible_module_changes_only_what_has_to_change(tmp_path: Path) -> None:
    ca = CA.create(tmp_path / "ca", "CN=Example CA")
    secret = ca.add_secret("host-1").decode()
    ca.close()
    with running("-m", "opensslcmp", "serve", str(tmp_path / "ca"), "--port", "0") as (_, host, port):
        parameters: dict[str, Any] = {
            "server": f"http://{host}:{port}/.well-known/cmp",
            "certificate": str(tmp_path / "host.pem"),
            "private_key": str(tmp_path / "host.key"),
            "trusted": str(tmp_path / "ca.pem"),
            "subject": "CN=host.example",
            "names": ["host.example"],
            "reference": "host-1",
            "secret": secret,
        }

        def play(**more: Any) -> dict[str, Any]:
            done = ran("ansible_module", given=json.dumps({"ANSIBLE_MODULE_ARGS": parameters | more}))
            assert secret not in done.stdout + done.stderr
            result: dict[str, Any] = json.loads(done.stdout)
            return result

        assert play(_ansible_check_mode=True) == {"changed": True, "reason": "absent"}
        assert not (tmp_path / "host.pem").exists()
        first = play()
        assert (first["changed"], first["reason"]) == (True, "absent")
        assert (tmp_path / "host.key").stat().st_mode & 0o777 == 0o600
        assert play() == {"changed": False, "reason": None}
        assert play(_ansible_check_mode=True) == {"changed": False, "reason": None}
        assert play(names=["host.example", "www.example"])["reason"] == "names"
        assert play(names=["host.example", "www.example"], renew_days=100_000)["reason"] == "ending"
        assert play(nonsense=1)["failed"]
        assert play(certificate=str(tmp_path / "other.pem"), secret="wrong")["failed"]


def test_the_acme_handler_polls_where_the_ca_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    from opensslcmp import Context, Session, SharedSecret
    from opensslcmp.server import open_responder
    from opensslcmp.transport import InProcess
    from tests import native_peers as peers

    pem = serialization.Encoding.PEM
    ca = CA.create(tmp_path / "ca", "CN=Example CA")
    credential = SharedSecret("acme", ca.add_secret("acme"))
    ca.close()
    first = open_responder(tmp_path / "ca")
    with Session(Context(credential=credential), InProcess(first)) as session:
        own = session.enroll("CN=acme", generate="ec:P-256")
    first.close()
    assert own.key is not None
    for name, data in (
        ("CMP_CERT", own.certificate.public_bytes(pem)),
        ("CMP_KEY", own.key.to_pem()),
        ("CMP_TRUSTED", own.ca_certificates[0].public_bytes(pem)),
    ):
        (tmp_path / name).write_bytes(data)
        monkeypatch.setenv(name, str(tmp_path / name))
    known = own.certificate.fingerprint(hashes.SHA256())
    responder = open_responder(tmp_path / "ca", approval=True, registration_authorities=[known])
    csr = x509.CertificateSigningRequestBuilder().subject_name(peers.name("www")).sign(peers.new_key(), hashes.SHA256())
    encoded = base64.b64encode(csr.public_bytes(serialization.Encoding.DER)).decode()
    module = example("ca_handler")
    with module.CAhandler(way=InProcess(responder)) as handler:
        error, bundle, _, identifier = handler.enroll(encoded)
        assert (error, bundle) == (None, None)
        assert handler.poll("www", identifier, encoded)[1] is None
        assert handler.trigger("x")[0]
        assert handler.revoke(encoded, "nonsense")[0] == 500
        assert handler.enroll("AAAA")[0]
    responder.close()


def test_a_device_gets_a_key_that_the_ca_made() -> None:
    done = ran("central_key_generation")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["issued", "renewed"]
    assert "EC 384 bits" in done.stdout
