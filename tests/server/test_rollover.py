"""A root CA changes its key: who holds the old root goes on, old certificates stay, and a crash leaves nothing half."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp.client.context import Context
from opensslcmp.client.results import Issued
from opensslcmp.client.session import Session
from opensslcmp.context.certificates import facts, load_certificates
from opensslcmp.context.keys import PrivateKey
from opensslcmp.credentials import SharedSecret, Signer
from opensslcmp.enums import RevocationReason
from opensslcmp.errors import OpenSSLError, Rejected
from opensslcmp.server import Responder, open_responder
from opensslcmp.server.ca import CA
from opensslcmp.server.generations import generations_in, kind_of_key, pem_of, roll_over, url_of
from opensslcmp.transport import InProcess


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A CA's directory."""
    ca = CA.create(tmp_path / "ca", "O=Test,CN=Rolling CA", crl_url="http://ca.example/ca.crl")
    ca.add_secret("device", "secret")
    ca.close()
    return tmp_path / "ca"


@contextmanager
def running(place: Path) -> Iterator[Responder]:
    """The server of a CA's directory, started anew."""
    responder = open_responder(place)
    try:
        yield responder
    finally:
        responder.close()


def session(responder: Responder, *trusted: bytes, credential: Any = None) -> Session:
    roots = [x509.load_der_x509_certificate(each) for each in trusted]
    return Session(
        Context(credential=credential or SharedSecret("device", "secret"), trusted=roots), InProcess(responder)
    )


def root_of(place: Path, generation: int = 0) -> bytes:
    home = place / f"generation-{generation}" if generation else place
    return load_certificates(home / "ca.pem")[0]


def enroll(responder: Responder, *trusted: bytes, name: str = "device") -> Issued:
    return session(responder, *trusted).enroll(f"CN={name}", generate="ec:P-256")


def signed_by(issued: Issued, root: bytes) -> bool:
    try:
        issued.certificate.verify_directly_issued_by(x509.load_der_x509_certificate(root))
    except Exception:
        return False
    return True


def verifies(tmp_path: Path, anchor: bytes, certificate: x509.Certificate, crl: bytes, untrusted: bytes = b"") -> bool:
    """What ``openssl verify -crl_check`` says."""
    (tmp_path / "anchor.pem").write_bytes(pem_of([anchor]))
    (tmp_path / "leaf.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "crl.pem").write_bytes(x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM))
    (tmp_path / "untrusted.pem").write_bytes(pem_of([untrusted]) if untrusted else b"")
    command = ["openssl", "verify", "-crl_check", "-CAfile", "anchor.pem", "-CRLfile", "crl.pem"]
    if untrusted:
        command += ["-untrusted", "untrusted.pem"]
    return subprocess.run([*command, "leaf.pem"], cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_a_new_key_issues_and_holders_of_the_old_root_are_led_to_it(place: Path) -> None:
    old = root_of(place)
    rolled = roll_over(place, "ec:P-384")
    assert (rolled.number, rolled.certificate) == (1, root_of(place, 1))
    assert kind_of_key(facts(rolled.certificate).spki) == "ec:P-384"
    with running(place) as server:
        issued = enroll(server, old)
        assert signed_by(issued, rolled.certificate)
        assert not signed_by(issued, old)
        holder = Signer(issued.certificate, issued.key, issued.chain)
        for root in (old, rolled.certificate):  # also where the answer is signed
            signed = session(server, root, credential=holder)
            assert {each.public_bytes(Encoding.DER) for each in signed.ca_certificates()} >= {rolled.certificate}
        update = session(server, old, credential=holder).root_ca_update(old)
        assert update is not None
        assert update.new_with_new.public_bytes(Encoding.DER) == rolled.certificate
        assert session(server, rolled.certificate, credential=holder).root_ca_update(rolled.certificate) is None


def test_the_certificates_of_a_first_enrollment_bring_the_new_root_alone(place: Path) -> None:
    rolled = roll_over(place)
    with running(place) as server:
        issued = enroll(server)
        assert [each.public_bytes(Encoding.DER) for each in issued.ca_certificates] == [rolled.certificate]


def test_what_the_old_key_issued_can_be_updated_and_revoked(place: Path) -> None:
    old = root_of(place)
    with running(place) as server:
        first, second = enroll(server, old), enroll(server, old, name="other")
    rolled = roll_over(place)
    with running(place) as server:
        holder = Signer(first.certificate, first.key, first.chain)
        renewed = session(server, old, credential=holder).update(generate="ec:P-256")
        assert signed_by(renewed, rolled.certificate)
        assert renewed.certificate.subject == first.certificate.subject
        other = Signer(second.certificate, second.key, second.chain)
        session(server, old, credential=other).revoke(reason=RevocationReason.SUPERSEDED)
        with pytest.raises(Rejected):
            session(server, old, credential=other).revoke(reason=RevocationReason.SUPERSEDED)


def test_each_key_signs_a_crl_that_tells_of_all_certificates(place: Path, tmp_path: Path) -> None:
    old = root_of(place)
    with running(place) as server:
        before = enroll(server, old)
        good = enroll(server, old, name="good")
        number_before = x509.load_der_x509_crl((place / "ca.crl").read_bytes())
    rolled = roll_over(place)
    with running(place) as server:
        ca = server.authority
        assert isinstance(ca, CA)
        after = enroll(server, rolled.certificate, name="after")
        assert verifies(tmp_path, old, before.certificate, ca.current_crl(0).content)
        assert verifies(tmp_path, rolled.certificate, after.certificate, ca.current_crl().content)
        back = rolled.update.old_with_new if rolled.update else None
        assert back is not None  # whoever holds the new root alone checks an old certificate by oldWithNew
        assert verifies(tmp_path, rolled.certificate, before.certificate, ca.current_crl(0).content, back)
        for issued in (before, after):
            ca.change_status(issued.certificate.serial_number, RevocationReason.KEY_COMPROMISE)
        assert not verifies(tmp_path, old, before.certificate, ca.current_crl(0).content)
        assert not verifies(tmp_path, rolled.certificate, after.certificate, ca.current_crl().content)
        assert verifies(tmp_path, old, good.certificate, ca.current_crl(0).content)
        crls = [x509.load_der_x509_crl((place / name).read_bytes()) for name in ("ca.crl", "ca-1.crl")]
        for crl, root in zip(crls, (old, rolled.certificate), strict=True):
            key = x509.load_der_x509_certificate(root).public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            assert crl.is_signature_valid(key)
            assert {each.serial_number for each in crl} == {
                before.certificate.serial_number,
                after.certificate.serial_number,
            }
        numbers = [
            crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for crl in (number_before, *crls)
        ]
        assert numbers == sorted(set(numbers))
        assert ca.crl_paths() == {"/crl-1": 1, "/ca-1.crl": 1, "/crl": 0, "/ca.crl": 0}
    point = after.certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value[0]
    assert point.full_name is not None
    assert point.full_name[0].value == "http://ca.example/ca-1.crl"


def test_a_key_may_change_again_and_holders_of_the_first_root_still_follow(place: Path) -> None:
    first = root_of(place)
    with running(place) as server:
        issued = enroll(server, first)
    second = roll_over(place).certificate
    third = roll_over(place, "rsa:2048").certificate
    with running(place) as server:
        holder = Signer(issued.certificate, issued.key, issued.chain)
        renewed = session(server, first, credential=holder).update(generate="ec:P-256")
        assert signed_by(renewed, third)
        by_new = Signer(renewed.certificate, renewed.key, renewed.chain)
        for held, follows in ((first, second), (second, third)):
            update = session(server, first, credential=by_new).root_ca_update(held)
            assert update is not None
            assert update.new_with_new.public_bytes(Encoding.DER) == follows
        ca = server.authority
        assert isinstance(ca, CA)
        assert sorted(ca.crl_paths().values()) == [0, 0, 1, 1, 2, 2]


def test_an_old_key_that_was_taken_away_signs_no_crl_and_all_else_goes_on(place: Path) -> None:
    old = root_of(place)
    with running(place) as server:
        issued = enroll(server, old)
    roll_over(place)
    (place / "ca.key").unlink()
    with running(place) as server:
        ca = server.authority
        assert isinstance(ca, CA)
        with pytest.raises(ValueError, match="generation 0"):
            ca.current_crl(0)
        assert ca.crl_paths() == {"/crl-1": 1, "/ca-1.crl": 1, "/crl": 1, "/ca.crl": 1}
        holder = Signer(issued.certificate, issued.key, issued.chain)
        assert session(server, old, credential=holder).update(generate="ec:P-256")


def test_once_the_old_root_has_ended_nothing_of_it_is_told_any_more(tmp_path: Path) -> None:
    place = tmp_path / "ca"
    CA.create(place, days=10).close()
    rolled = roll_over(place)
    then = (datetime.now(UTC) + timedelta(days=11)).timestamp()
    ca = CA.open(place, clock=lambda: then)
    assert ca.anchors == (rolled.certificate,)
    assert (ca.signer.certificate, list(ca.signer.chain)) == (rolled.certificate, [])
    assert ca.crl_paths() == {"/crl-1": 1, "/crl": 1}
    ca.close()


class Stopped(BaseException):
    """The machine lost its power."""


def steps(monkeypatch: pytest.MonkeyPatch, stop: int | None) -> list[str]:
    """Counts what touches the disk, and stops before the one with this number."""
    done: list[str] = []
    real = {name: getattr(os, name) for name in ("open", "fsync", "mkdir", "rename")}

    def watched(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if stop is not None and len(done) == stop:
                raise Stopped
            done.append(name)
            return real[name](*args, **kwargs)

        return call

    for name in real:
        monkeypatch.setattr(os, name, watched(name))
    return done


def test_a_crash_at_any_step_leaves_the_old_key_or_the_new_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # who has no power tidies nothing up
    whole = tmp_path / "whole"
    shutil.copytree(place, whole)
    with monkeypatch.context() as patch:
        done = steps(patch, None)
        roll_over(whole)
        count = len(done)
    outcomes = []
    for stop in range(count):
        copy = tmp_path / f"crash-{stop}"
        shutil.copytree(place, copy)
        with monkeypatch.context() as patch:
            steps(patch, stop)
            with pytest.raises(Stopped):
                roll_over(copy)
        found = generations_in(copy)
        outcomes.append(found[-1].number)
        CA.open(copy).close()
    assert set(outcomes) == {0, 1}
    assert outcomes == sorted(outcomes)


def test_what_an_interrupted_rollover_left_is_removed_by_the_next(place: Path) -> None:
    left = place / ".generation-1.0123456789ab"
    left.mkdir()
    (left / "ca.key").write_bytes(PrivateKey.generate().to_pem())
    (place / ".generation-of-mine").mkdir()
    roll_over(place)
    assert not left.exists()
    assert (place / ".generation-of-mine").exists()


def test_one_at_a_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[BlockingIOError] = []
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        with pytest.raises(BlockingIOError, match="another rollover") as error:
            roll_over(place)
        refused.append(error.value)
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    roll_over(place)
    assert len(refused) == 1
    assert [each.number for each in generations_in(place)] == [0, 1]


def test_the_new_files_are_as_private_as_the_old(place: Path) -> None:
    roll_over(place)
    home = place / "generation-1"
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "ca.key").stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in home.iterdir()) == ["ca.key", "ca.pem", "root-update.pem"]


def test_a_key_under_a_password_is_followed_by_one(place: Path) -> None:
    key = PrivateKey.load(place / "ca.key")
    (place / "ca.key").write_bytes(key.to_pem(b"pass"))
    with pytest.raises(OpenSSLError):
        roll_over(place)
    roll_over(place, password=b"pass")
    with pytest.raises(OpenSSLError):
        CA.open(place)
    CA.open(place, password=b"pass").close()


def test_a_subordinate_or_expired_ca_cannot_do_it(place: Path, tmp_path: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=4000)
    with pytest.raises(ValueError, match="expired"):
        roll_over(place, now=later)
    with pytest.raises(ValueError, match="kind of key"):
        roll_over(place, "pkcs11:object=x")
    with (place / "ca.pem").open("ab") as file:
        file.write(pem_of([root_of(place)]))
    with pytest.raises(ValueError, match="no root"):
        roll_over(place)
    assert not (place / "generation-1").exists()


def test_files_of_a_generation_that_do_not_fit_are_refused_when_the_ca_is_opened(place: Path) -> None:
    roll_over(place)
    home = place / "generation-1"
    kept = {name: (home / name).read_bytes() for name in ("ca.key", "ca.pem", "root-update.pem")}
    (home / "ca.key").write_bytes(PrivateKey.generate().to_pem())
    with pytest.raises(ValueError, match=r"generation-1/ca\.key is not the key"):
        CA.open(place)
    (home / "ca.key").write_bytes(kept["ca.key"])
    (home / "ca.pem").unlink()
    with pytest.raises(FileNotFoundError):
        CA.open(place)
    (home / "ca.pem").write_bytes(kept["ca.pem"])
    roll_over(place)
    (place / "generation-2" / "root-update.pem").write_bytes(kept["root-update.pem"])
    with pytest.raises(ValueError, match="does not lead"):
        CA.open(place)


@pytest.mark.parametrize("kind", ["ec:P-384", "ec:P-521", "rsa:2048", "ed25519", "ed448"])
def test_the_kind_of_a_key_is_known(kind: str) -> None:
    assert kind_of_key(PrivateKey.generate(kind).public_key_der) == kind


def test_the_kind_of_some_keys_must_be_said() -> None:
    from cryptography.hazmat.primitives.asymmetric import x25519
    from cryptography.hazmat.primitives.serialization import PublicFormat

    spki = x25519.X25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="must be said"):
        kind_of_key(spki)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://ca.example/crl", "http://ca.example/crl-2"),
        ("http://ca.example/pki/ca.crl", "http://ca.example/pki/ca-2.crl"),
        ("ldap://ca.example/cn=CA?certificateRevocationList", "ldap://ca.example/cn=CA-2?certificateRevocationList"),
        ("/crl", "/crl-2"),
    ],
)
def test_each_generation_has_a_url_of_its_own(url: str, expected: str) -> None:
    assert url_of(url, 2) == expected
    assert url_of(url, 0) == url
