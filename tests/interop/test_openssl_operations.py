"""Every operation of ``openssl cmp`` against ``opensslcmp serve`` with its default profile, on the openssl that is installed.

Certificates are checked by ``openssl verify``, with the CRL from the URL that they carry; what the program prints is read.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.asn1 import admit
from opensslcmp.enums import BodyType, RevocationReason
from opensslcmp.server import open_responder
from opensslcmp.server.approval import pending_applications
from opensslcmp.server.ca import CA
from opensslcmp.server.store import Application
from tests.server.device import KEYS, mac_device
from tests.server.web_client import running

R = RevocationReason
SECRET = {"SECRET": "correct horse"}
BY_SECRET = ("-ref", "device", "-secret", "env:SECRET")
VERSION = tuple(
    int(each)
    for each in re.findall(
        r"\d+", subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True).stdout
    )[:2]
)


def needs(version: str) -> pytest.MarkDecorator:
    wanted = tuple(int(each) for each in version.split("."))
    return pytest.mark.skipif(wanted > VERSION, reason=f"openssl cmp has it since {version}")


@dataclass(frozen=True)
class Site:
    """A CA that is served, and a directory with keys for its clients."""

    directory: Path
    server: str
    keys: Path


def free_port() -> int:
    """One that is free now: certificates carry the URL of the CRL, so it is chosen before the server starts."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def shell(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["openssl", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys and a CSR, made by openssl."""
    where = tmp_path_factory.mktemp("keys")
    for kind, options in {
        "ec": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        "p384": ("EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
        "next": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        "rsa": ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
        "ed25519": ("ED25519",),
        "pss": ("RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"),
        "partner": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
    }.items():
        shell("genpkey", "-algorithm", *options, "-out", f"{kind}.key", cwd=where)
    shell(
        "req", "-new", "-config", os.devnull, "-key", "ec.key", "-out", "ec.csr", "-subj", "/O=Test/CN=csr", cwd=where
    )
    partner = ("-key", "partner.key", "-out", "partner.pem", "-subj", "/CN=Partner CA", "-days", "9")
    shell("req", "-new", "-x509", *partner, cwd=where)
    return where


def served(directory: Path, keys: Path, port: int, *options: str) -> Iterator[Site]:
    with running("-m", "opensslcmp", "serve", str(directory), "--port", str(port), *options) as (_, host, bound):
        yield Site(directory, f"{host}:{bound}", keys)


def created(directory: Path) -> int:
    port = free_port()
    ca = CA.create(directory, "CN=Test CA,O=Test", crl_url=f"http://127.0.0.1:{port}/crl")
    ca.add_secret("device", SECRET["SECRET"])
    ca.close()
    return port


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("ca") / "ca"
    port = created(directory)
    with (directory / "opensslcmp.toml").open("a") as settings:
        settings.write(f'\n[authorisation]\nanchors = ["{keys / "partner.pem"}"]\n')
    yield from served(directory, keys, port)


@pytest.fixture(scope="module")
def approving(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("approving") / "ca"
    yield from served(directory, keys, created(directory), "--approval", "manual")


Run = Callable[..., subprocess.CompletedProcess[str]]


def command(site: Site, *arguments: str) -> list[str]:
    return ["openssl", "cmp", "-config", "", "-server", site.server, "-path", ".well-known/cmp", *arguments]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``openssl cmp`` in a directory of its own, ``{keys}`` in its arguments being the one with the keys."""

    def made(site: Site, *arguments: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
        told = [each.replace("{keys}", str(site.keys)) for each in arguments]
        if "-trusted" not in told and "-secret" not in told:
            told += ["-trusted", str(site.directory / "ca.pem")]
        done = subprocess.run(
            command(site, *told),
            cwd=tmp_path,
            env=os.environ | SECRET,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done

    return made


def asking(key: str = "ec", subject: str = "/O=Test/CN=openssl", out: str = "cert.pem") -> tuple[str, ...]:
    return ("-newkey", f"{{keys}}/{key}.key", "-subject", subject, "-certout", out)


def by_cert(key: str = "ec", certificate: str = "cert.pem") -> tuple[str, ...]:
    return ("-cert", certificate, "-key", f"{{keys}}/{key}.key")


def loaded(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(site: Site, where: Path, certificate: str = "cert.pem", *, revoked: bool = False) -> None:
    """``openssl verify`` with the CRL from the certificate's own URL."""
    done = subprocess.run(
        ["openssl", "verify", "-CAfile", str(site.directory / "ca.pem"), "-crl_check", "-crl_download", certificate],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode != 0) is revoked, done.stdout + done.stderr
    assert ("certificate revoked" in done.stderr) is revoked


def state(site: Site, certificate: x509.Certificate) -> str:
    ca = CA.open(site.directory)
    try:
        record = ca.find(certificate.serial_number)
        assert record is not None
        return record.state.name
    finally:
        ca.close()


CONFIRM = {"explicit": (), "implicit": ("-implicit_confirm",), "disabled": ("-disable_confirm",)}


@pytest.mark.parametrize("confirm", CONFIRM)
@pytest.mark.parametrize("cmd", ["ir", "cr", "p10cr"])
def test_a_certificate_is_asked_for_by_secret_and_confirmed(
    site: Site, run: Run, tmp_path: Path, cmd: str, confirm: str
) -> None:
    wanted = ("-csr", "{keys}/ec.csr", "-certout", "cert.pem") if cmd == "p10cr" else asking()
    kept = ("-reqout", "req.der", "-rspout", "rsp.der") if confirm == "implicit" else ()
    run(site, "-cmd", cmd, *BY_SECRET, *wanted, *CONFIRM[confirm], *kept)
    certificate = loaded(tmp_path / "cert.pem")
    assert certificate.subject.rfc4514_string() == ("CN=csr,O=Test" if cmd == "p10cr" else "CN=openssl,O=Test")
    assert state(site, certificate) == ("UNCONFIRMED" if confirm == "disabled" else "VALID")
    verify(site, tmp_path)
    if kept:
        asked, answer = (admit((tmp_path / each).read_bytes()) for each in ("req.der", "rsp.der"))
        assert answer.body_type is (BodyType.IP if cmd == "ir" else BodyType.CP)
        assert answer.implicit_confirm
        assert (answer.transaction_id, answer.recip_nonce) == (asked.transaction_id, asked.sender_nonce)


@pytest.mark.parametrize("confirm", CONFIRM)
@pytest.mark.parametrize("cmd", ["ir", "cr", "kur", "p10cr"])
def test_a_certificate_is_asked_for_by_certificate(
    site: Site, run: Run, tmp_path: Path, cmd: str, confirm: str
) -> None:
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-implicit_confirm")
    wanted: tuple[str, ...] = asking("next", "/O=Test/CN=other", out="new.pem")
    if cmd == "kur":
        wanted = ("-newkey", "{keys}/next.key", "-certout", "new.pem")
    elif cmd == "p10cr":
        wanted = ("-csr", "{keys}/ec.csr", "-certout", "new.pem")
    run(site, "-cmd", cmd, *by_cert(), *wanted, *CONFIRM[confirm])
    old, new = loaded(tmp_path / "cert.pem"), loaded(tmp_path / "new.pem")
    assert new.serial_number != old.serial_number
    assert state(site, new) == ("UNCONFIRMED" if confirm == "disabled" else "VALID")
    verify(site, tmp_path, "new.pem")
    if cmd == "kur":
        assert new.subject == old.subject
        assert state(site, old) == ("UPDATING" if confirm == "disabled" else "UPDATED")
        if confirm != "disabled":
            run(site, "-cmd", "kur", *by_cert(), "-newkey", "{keys}/next.key", "-certout", "x.pem", fails=True)


@pytest.mark.parametrize("key", ["rsa", "p384", "ed25519"])
@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_keys_and_digests_of_signatures(site: Site, run: Run, tmp_path: Path, key: str, digest: str) -> None:
    if key == "ed25519" and (VERSION < (3, 5) or digest != "sha512"):
        # Older ones sign nothing with it; the digest has no meaning then.
        pytest.skip("openssl cmp does not sign messages with Ed25519")
    chosen = ("-digest", digest)
    run(site, "-cmd", "ir", *BY_SECRET, *asking(key), "-implicit_confirm", *chosen)
    run(site, "-cmd", "cr", *by_cert(key), *asking("next", out="new.pem"), *chosen)
    run(site, "-cmd", "kur", *by_cert(key), "-newkey", "{keys}/next.key", "-certout", "updated.pem", *chosen)
    for name in ("new.pem", "updated.pem"):
        verify(site, tmp_path, name)


@pytest.mark.parametrize(
    ("digest", "mac"),
    [
        ("sha256", "hmac-sha1"),
        ("sha256", "hmacWithSHA256"),
        ("sha384", "hmacWithSHA384"),
        ("sha512", "hmacWithSHA512"),
        ("sha512", "hmac-sha1"),
        ("sha256", "hmacWithSHA512"),
    ],
)
def test_macs_of_every_kind(site: Site, run: Run, tmp_path: Path, digest: str, mac: str) -> None:
    chosen = ("-digest", digest, "-mac", mac)
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), *chosen, "-reqout", "req.der x.der", "-rspout", "rsp.der y.der")
    asked, answer = (admit((tmp_path / each).read_bytes()) for each in ("req.der", "rsp.der"))
    assert asked.mac is not None
    assert answer.mac == asked.mac
    verify(site, tmp_path)


@needs("3.5")
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_a_device_of_another_ca_signs_with_rsassa_pss(site: Site, run: Run, tmp_path: Path, digest: str) -> None:
    partner = ("-CA", str(site.keys / "partner.pem"), "-CAkey", str(site.keys / "partner.key"))
    shell("req", "-new", "-config", os.devnull, "-key", str(site.keys / "pss.key"), "-subj", "/CN=pss", "-out", "pss.csr",
          cwd=tmp_path)  # fmt: skip
    shell("x509", "-req", "-in", "pss.csr", *partner, "-CAcreateserial", "-out", "pss.pem", "-days", "9", cwd=tmp_path)
    # Else it asks for a certificate of its own certificate's issuer, which is another CA.
    chosen = ("-digest", digest, "-reqout", "req.der x.der", "-issuer", "/O=Test/CN=Test CA")
    run(site, "-cmd", "ir", *by_cert("pss", "pss.pem"), *asking(), *chosen)
    assert admit((tmp_path / "req.der").read_bytes()).protection_algorithm == "1.2.840.113549.1.1.10"
    verify(site, tmp_path)


REASONS = [None, *(each for each in R if each is not R.REMOVE_FROM_CRL)]


@pytest.mark.parametrize("reason", REASONS)
def test_a_certificate_is_revoked_for_each_reason(site: Site, run: Run, tmp_path: Path, reason: R | None) -> None:
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-implicit_confirm")
    why = () if reason is None else ("-revreason", str(int(reason)))
    done = run(site, "-cmd", "rr", *by_cert(), "-oldcert", "cert.pem", *why)
    assert "revocation accepted (PKIStatus=accepted)" in done.stdout + done.stderr
    verify(site, tmp_path, revoked=True)
    shell("crl", "-in", str(site.directory / "ca.crl"), "-inform", "DER", "-noout", "-text", cwd=tmp_path)
    crl = x509.load_der_x509_crl((site.directory / "ca.crl").read_bytes())
    entry = crl.get_revoked_certificate_by_serial_number(loaded(tmp_path / "cert.pem").serial_number)
    assert entry is not None
    assert len(entry.extensions) == (0 if reason in {None, R.UNSPECIFIED} else 1)
    again = run(site, "-cmd", "rr", *by_cert(), "-oldcert", "cert.pem", *why, fails=True)
    assert "certRevoked" in again.stdout + again.stderr


def test_a_certificate_on_hold_is_released(site: Site, run: Run, tmp_path: Path) -> None:
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-implicit_confirm")
    run(site, "-cmd", "rr", *by_cert(), "-oldcert", "cert.pem", "-revreason", str(int(R.CERTIFICATE_HOLD)))
    verify(site, tmp_path, revoked=True)
    run(site, "-cmd", "rr", *by_cert(), "-oldcert", "cert.pem", "-revreason", str(int(R.REMOVE_FROM_CRL)))
    verify(site, tmp_path)


@needs("3.2")
def test_a_certificate_is_revoked_by_issuer_and_serial_number(site: Site, run: Run, tmp_path: Path) -> None:
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-implicit_confirm")
    number = loaded(tmp_path / "cert.pem").serial_number
    named = ("-issuer", "/O=Test/CN=Test CA", "-serial", str(number))
    run(site, "-cmd", "rr", *by_cert(), *named, "-revreason", "4")
    verify(site, tmp_path, revoked=True)


def test_nobody_revokes_for_others(site: Site, run: Run, tmp_path: Path) -> None:
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-implicit_confirm")
    run(site, "-cmd", "ir", *BY_SECRET, *asking("next", "/CN=other", "other.pem"), "-implicit_confirm")
    done = run(site, "-cmd", "rr", *by_cert(), "-oldcert", "other.pem", fails=True)
    assert "notAuthorized" in done.stdout + done.stderr
    verify(site, tmp_path, "other.pem")
    done = run(site, "-cmd", "rr", *BY_SECRET, "-oldcert", "other.pem", fails=True)
    assert "wrongIntegrity" in done.stdout + done.stderr


# What openssl may ask for without a value, and whether this CA has an answer.
INFO = {
    "caCerts": True,
    "rootCaCert": True,
    "certReqTemplate": True,
    "currentCRL": True,
    "signKeyPairTypes": True,
    "encKeyPairTypes": True,
    "preferredSymmAlg": True,
    "caProtEncCert": True,
    "suppLangTags": False,
    "keyPairParamReq": False,
    "caKeyUpdateInfo": False,
    "unsupportedOIDs": False,
    "keyPairParamRep": False,
    "revPassphrase": False,
    "implicitConfirm": False,
    "confirmWaitTime": False,
    "origPKIMessage": False,
}


@pytest.mark.parametrize(
    ("kind", "by"), [*((kind, "secret") for kind in INFO), ("caCerts", "certificate"), ("revPassphrase", "certificate")]
)
def test_each_kind_of_information_is_given_or_refused(site: Site, run: Run, tmp_path: Path, kind: str, by: str) -> None:
    who: tuple[str, ...] = BY_SECRET
    if by == "certificate":
        run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-implicit_confirm")
        who = by_cert()
    kept = (tmp_path / "rsp.der").name
    done = subprocess.run(
        command(site, "-cmd", "genm", *(each.replace("{keys}", str(site.keys)) for each in who), "-infotype", kind,
                "-rspout", kept, "-trusted", str(site.directory / "ca.pem")),
        cwd=tmp_path, env=os.environ | SECRET, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # Newer ones want a file to write some answers to; what they do with the answer is their business.
    said = done.stdout + done.stderr
    if not (tmp_path / kept).exists():
        assert re.search(r"missing|option|unknown|must", said), said
        return
    answer = admit((tmp_path / kept).read_bytes())
    assert answer.body_type is (BodyType.GENP if INFO[kind] else BodyType.ERROR), said
    if not INFO[kind]:
        assert done.returncode != 0


def test_an_empty_question_is_answered(site: Site, run: Run) -> None:
    done = run(site, "-cmd", "genm", *BY_SECRET)
    assert "GENP" in done.stdout + done.stderr


@needs("3.2")
def test_the_cas_certificates_are_saved(site: Site, run: Run, tmp_path: Path) -> None:
    run(site, "-cmd", "genm", *BY_SECRET, "-infotype", "caCerts", "-cacertsout", "cas.pem")
    assert (tmp_path / "cas.pem").read_bytes() == (site.directory / "ca.pem").read_bytes()


@needs("3.4")
def test_the_crl_and_the_template_are_saved(site: Site, run: Run, tmp_path: Path) -> None:
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-implicit_confirm")
    run(site, "-cmd", "genm", *BY_SECRET, "-infotype", "crlStatusList", "-crlcert", "cert.pem", "-crlout", "ca.crl")
    shell("crl", "-in", "ca.crl", "-CAfile", str(site.directory / "ca.pem"), "-noout", cwd=tmp_path)
    run(site, "-cmd", "genm", *BY_SECRET, "-infotype", "certReqTemplate", "-template", "template.der")
    assert (tmp_path / "template.der").stat().st_size


@needs("3.3")
def test_a_profile_that_is_not_known_is_refused(site: Site, run: Run, tmp_path: Path) -> None:
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-profile", "default")
    verify(site, tmp_path)
    done = run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-profile", "nonsense", fails=True)
    assert "badCertTemplate" in done.stdout + done.stderr


@needs("3.5")
def test_keys_are_not_generated_here(site: Site, run: Run) -> None:
    options = ("-centralkeygen", "-newkeyout", "made.key", "-subject", "/CN=x", "-certout", "x.pem")
    run(site, "-cmd", "ir", *BY_SECRET, *options, fails=True)


@pytest.mark.parametrize(
    ("popo", "failure"),
    [(-1, "badPOP" if VERSION < (3, 5) else "-newkeyout"), (0, "notAuthorized"), (1, None), (2, None)],
)
def test_proofs_of_possession(site: Site, run: Run, popo: int, failure: str | None) -> None:
    done = run(site, "-cmd", "ir", *BY_SECRET, *asking("rsa"), "-popo", str(popo), fails=failure is not None)
    assert failure is None or failure in done.stdout + done.stderr


def test_names_days_and_extensions_are_as_asked_for(site: Site, run: Run, tmp_path: Path) -> None:
    (tmp_path / "ext.cnf").write_text("[exts]\nkeyUsage=digitalSignature,keyAgreement\nextendedKeyUsage=clientAuth\n")
    options = ("-days", "30", "-sans", "a.example 192.0.2.1", "-reqexts", "exts", "-chainout", "chain.pem")
    done = subprocess.run(
        ["openssl", "cmp", "-config", "ext.cnf", "-section", "", "-server", site.server, "-path", ".well-known/cmp",
         "-cmd", "ir", *BY_SECRET, *(each.replace("{keys}", str(site.keys)) for each in asking()), *options,
         "-extracertsout", "extra.pem", "-cacertsout", "cas.pem"],
        cwd=tmp_path, env=os.environ | SECRET, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    certificate = loaded(tmp_path / "cert.pem")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_agreement
    assert certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert 29 <= (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 30
    own = (site.directory / "ca.pem").read_bytes()
    assert own in (tmp_path / "cas.pem").read_bytes()
    assert own in (tmp_path / "extra.pem").read_bytes()
    verify(site, tmp_path)


@pytest.mark.parametrize("keep", ["0", "1", "2"])
def test_connections_are_kept_or_not(site: Site, run: Run, tmp_path: Path, keep: str) -> None:
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-keep_alive", keep)
    verify(site, tmp_path)


def test_header_infos_that_nobody_knows_do_no_harm(site: Site, run: Run) -> None:
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-geninfo", "1.2.3.4:int:56789")


def test_the_server_may_be_named_pinned_and_expected(site: Site, run: Run) -> None:
    run(site, "-cmd", "ir", *BY_SECRET, *asking(), "-recipient", "/O=Test/CN=Test CA", "-implicit_confirm")
    pinned = ("-srvcert", str(site.directory / "ca.pem"), "-expect_sender", "/O=Test/CN=Test CA")
    run(site, "-cmd", "cr", *by_cert(), *asking("next", out="new.pem"), *pinned)
    run(site, "-cmd", "cr", *by_cert(), *asking("next", out="new.pem"), "-expect_sender", "/CN=Else", fails=True)


@pytest.mark.parametrize("accepting", [(), ("-unprotected_errors",)], ids=["protected", "unprotected"])
def test_who_is_not_protected_is_refused(site: Site, run: Run, accepting: tuple[str, ...]) -> None:
    trusted = ("-trusted", str(site.directory / "ca.pem"))
    done = run(site, "-cmd", "ir", "-unprotected_requests", *trusted, *asking(), *accepting, fails=True)
    assert "wrongIntegrity" in done.stdout + done.stderr


@pytest.mark.parametrize("accepting", [(), ("-unprotected_errors",)], ids=["protected", "unprotected"])
def test_a_wrong_secret_is_refused(site: Site, run: Run, accepting: tuple[str, ...]) -> None:
    trusted = ("-trusted", str(site.directory / "ca.pem"))
    wrong = ("-ref", "device", "-secret", "pass:wrong")
    done = run(site, "-cmd", "ir", *wrong, *trusted, *asking(), *accepting, fails=True)
    # The answer is signed, for who has no secret in common with us; 3.0 looks at it with -unprotected_errors only.
    assert not accepting or "badMessageCheck" in done.stdout + done.stderr


# -- answers that come later ----------------------------------------------------------------------------------------


def decide(site: Site, subject: str, approved: bool) -> Application:
    """Wait, for a bounded time, until somebody asks for this subject, and decide."""
    ca = CA.open(site.directory)
    try:
        for _ in range(600):
            for each in pending_applications(ca.store):
                if each.subject == subject:
                    assert ca.store.decide(each.id, approved, "" if approved else "not today", time.time())
                    return each
            time.sleep(0.05)
        raise AssertionError(f"nobody asks for {subject}")
    finally:
        ca.close()


def test_requests_of_each_type_are_approved_while_openssl_polls(approving: Site, tmp_path: Path) -> None:
    asked = {
        "ir": asking(subject="/CN=later-ir", out="ir.pem"),
        "cr": asking(subject="/CN=later-cr", out="cr.pem"),
        "p10cr": ("-csr", "p10cr.csr", "-certout", "p10cr.pem"),
        "refused": asking(subject="/CN=later-refused", out="refused.pem"),
        "hasty": (*asking(subject="/CN=later-hasty", out="hasty.pem"), "-total_timeout", "1"),
    }
    key = str(approving.keys / "ec.key")
    shell(
        "req", "-new", "-config", os.devnull, "-key", key, "-out", "p10cr.csr", "-subj", "/CN=later-p10cr", cwd=tmp_path
    )
    polling: dict[str, subprocess.Popen[str]] = {}
    for name, options in asked.items():
        cmd = name if name in {"ir", "cr", "p10cr"} else "ir"
        told = [each.replace("{keys}", str(approving.keys)) for each in (*BY_SECRET, *options)]
        timeout = () if name == "hasty" else ("-total_timeout", "50")
        polling[name] = subprocess.Popen(
            command(approving, "-cmd", cmd, *told, *timeout),
            cwd=tmp_path,
            env=os.environ | SECRET,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        for name in ("ir", "cr", "p10cr", "refused"):
            application = decide(approving, f"CN=later-{name}", approved=name != "refused")
            assert application.requester == "device"
        output = {name: process.communicate(timeout=60)[0] for name, process in polling.items()}
    finally:
        for process in polling.values():
            process.kill()
            process.wait()
    codes = {name: process.returncode for name, process in polling.items()}
    assert {name for name, code in codes.items() if code == 0} == {"ir", "cr", "p10cr"}, output
    for name in ("ir", "cr", "p10cr"):
        assert loaded(tmp_path / f"{name}.pem").subject.rfc4514_string() == f"CN=later-{name}"
        assert state(approving, loaded(tmp_path / f"{name}.pem")) == "VALID"
        verify(approving, tmp_path, f"{name}.pem")
    assert "notAuthorized" in output["refused"]
    assert "not today" in output["refused"]
    assert not (tmp_path / "hasty.pem").exists()


def test_updates_and_revocations_need_no_approval(approving: Site, run: Run, tmp_path: Path) -> None:
    responder = open_responder(approving.directory)
    device = mac_device(responder.handle, time.time, secret=SECRET["SECRET"])
    certificate = device.enroll(KEYS[0])
    responder.close()
    (tmp_path / "cert.pem").write_bytes(x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM))
    (tmp_path / "own.key").write_bytes(KEYS[0].to_pem())
    own = ("-cert", "cert.pem", "-key", "own.key")
    run(approving, "-cmd", "kur", *own, "-newkey", "{keys}/next.key", "-certout", "new.pem")
    run(approving, "-cmd", "rr", *by_cert("next", "new.pem"), "-oldcert", "new.pem", "-revreason", "1")
    verify(approving, tmp_path, "new.pem", revoked=True)
