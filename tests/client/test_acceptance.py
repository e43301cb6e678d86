"""What a new certificate must be like, or it is refused: for ``Session`` and for ``AsyncSession``."""

from __future__ import annotations

import dataclasses
import inspect
import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from opensslcmp import (
    AsyncSession,
    BadMessage,
    Context,
    Pending,
    ProtectionError,
    Rejected,
    Session,
    SharedSecret,
    Signer,
)
from opensslcmp.client.acceptance import Asked, check_issuer, check_names, check_validity
from opensslcmp.context.certificates import Trust
from opensslcmp.context.protection import MacProtector, SignatureProtector
from opensslcmp.credentials import MacParameters
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus
from tests.client.client_peers import Entity, certify, name
from tests.client.scripted import Scripted

SECRET = SharedSecret("device-17", "a long enough secret", parameters=MacParameters(iterations=100))
SANS = [
    x509.DNSName("Device.example"),
    x509.DirectoryName(name("Device  17")),
    x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
]
Run = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """An operation on either session."""

    def sync(peer: Any, context: Context, operation: str, *arguments: Any, **options: Any) -> Any:
        return getattr(Session(context, peer, sleep=lambda _: None), operation)(*arguments, **options)

    def asynchronous(peer: Any, context: Context, operation: str, *arguments: Any, **options: Any) -> Any:
        session = AsyncSession(context, peer, sleep=lambda _: None)
        return anyio.run(lambda: getattr(session, operation)(*arguments, **options))

    return sync if request.param == "sync" else asynchronous


@pytest.fixture
def mac() -> Context:
    return Context(credential=SECRET)


class Issuer:
    """Issues what it likes, by a key that need not be the CA's."""

    def __init__(self, ca: Entity) -> None:
        self.ca = ca
        self.subject: x509.Name | None = None
        self.names: list[x509.GeneralName] = []
        self.key_id: bytes | None = None
        self.begins, self.ends = timedelta(days=-1), timedelta(days=30)

    def __call__(self, subject: bytes, spki: bytes) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_bytes(subject) if self.subject is None else self.subject)
            .issuer_name(self.ca.certificate.subject)
            .public_key(serialization.load_der_public_key(spki))  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + self.begins)
            .not_valid_after(now + self.ends)
        )
        if self.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(self.names), critical=False)
        if self.key_id is not None:
            builder = builder.add_extension(x509.AuthorityKeyIdentifier(self.key_id, None, None), critical=False)
        return builder.sign(self.ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.fixture
def issuer(ca: Entity) -> Issuer:
    return Issuer(ca)


def peer_of(ca: Entity, issuer: Issuer, **options: Any) -> Scripted:
    return Scripted(ca, MacProtector(SECRET), secret=SECRET, issue=issuer, **options)


def refused(peer: Scripted) -> tuple[PKIStatus, tuple[FailureInfo, ...], tuple[str, ...]]:
    """What the last certConf said."""
    assert peer.kinds[-1] is BodyType.CERT_CONF
    assert not peer.confirmed
    (status,) = peer.requests[-1].content()
    assert status.status_info is not None
    return PKIStatus(status.status_info.status), status.status_info.failures, status.status_info.text


def csr(key: Any, subject: x509.Name, names: list[x509.GeneralName]) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


# -- subject ------------------------------------------------------------------------------------------------------


def test_another_subject_is_refused_and_the_server_told_why(run: Run, mac: Context, ca: Entity, issuer: Issuer) -> None:
    issuer.subject = name("device-18")
    peer = peer_of(ca, issuer)
    with pytest.raises(BadMessage, match="subject is not the one asked for"):
        run(peer, mac, "enroll", "CN=device-17", generate="ec:P-256")
    status, failures, text = refused(peer)
    assert (status, failures) == (PKIStatus.REJECTION, (FailureInfo.INCORRECT_DATA,))
    assert "subject" in text[0]


@pytest.mark.parametrize("option", ["status", "context"])
def test_modifications_that_are_declared_or_permitted_are_taken(
    run: Run, ca: Entity, issuer: Issuer, option: str
) -> None:
    issuer.subject = name("device-18")
    status = PKIStatus.GRANTED_WITH_MODS if option == "status" else PKIStatus.ACCEPTED
    context = Context(credential=SECRET, check_certificate=option != "context")
    peer = peer_of(ca, issuer, status=status)
    result = run(peer, context, "enroll", "CN=device-17", generate="ec:P-256", subject_alternative_names=SANS)
    assert result.certificate.subject == name("device-18")
    assert result.status is status
    assert peer.confirmed


def test_a_server_may_add_to_the_subject_and_spell_it_otherwise(
    run: Run, mac: Context, ca: Entity, issuer: Issuer
) -> None:
    organisation = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example")
    issuer.subject = x509.Name(
        [organisation, x509.NameAttribute(x509.NameOID.COMMON_NAME, "DEVICE-17", x509.name._ASN1Type.PrintableString)]
    )
    assert (
        run(peer_of(ca, issuer), mac, "enroll", "CN=device-17", generate="ec:P-256").certificate.subject
        == issuer.subject
    )


def test_a_subject_that_was_left_open_is_the_servers(run: Run, mac: Context, ca: Entity, issuer: Issuer) -> None:
    issuer.subject, issuer.names = name("whatever"), SANS
    result = run(peer_of(ca, issuer), mac, "enroll", None, generate="ec:P-256", subject_alternative_names=SANS)
    assert result.certificate.subject == name("whatever")


@pytest.mark.parametrize("wrong", ["subject", "names"])
def test_an_update_keeps_subject_and_alternative_names(
    run: Run, mac: Context, ca: Entity, device: Entity, issuer: Issuer, wrong: str
) -> None:
    issuer.names = [x509.DNSName("device.example")]
    assert run(peer_of(ca, issuer), mac, "update", device.certificate, generate="ec:P-256")
    if wrong == "subject":
        issuer.subject = name("other")
    else:
        issuer.names = [x509.DNSName("other.example")]
    peer = peer_of(ca, issuer)
    with pytest.raises(BadMessage, match="asked for"):
        run(peer, mac, "update", device.certificate, generate="ec:P-256")
    assert refused(peer)[1] == (FailureInfo.INCORRECT_DATA,)


@pytest.mark.parametrize("wrong", ["subject", "names", None])
def test_a_pkcs10_request_has_its_subject_and_names(
    run: Run, mac: Context, ca: Entity, device: Entity, issuer: Issuer, wrong: str | None
) -> None:
    issuer.subject = name("other") if wrong == "subject" else None
    issuer.names = SANS[:1] if wrong == "names" else SANS
    peer = peer_of(ca, issuer)
    request = csr(device.key, name("csr"), SANS)
    if wrong is None:
        assert run(peer, mac, "enroll_csr", request).certificate.subject == name("csr")
        # Nothing is asked for.
        assert run(peer, mac, "enroll_csr", csr(device.key, x509.Name([]), [])).certificate
        return
    with pytest.raises(BadMessage, match="asked for"):
        run(peer, mac, "enroll_csr", request)
    assert refused(peer)[0] is PKIStatus.REJECTION


# -- alternative names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", range(len(SANS)))
def test_each_alternative_name_must_be_there(run: Run, mac: Context, ca: Entity, issuer: Issuer, missing: int) -> None:
    issuer.names = [each for each in SANS if each is not SANS[missing]]
    with pytest.raises(BadMessage, match="lacks alternative names"):
        run(peer_of(ca, issuer), mac, "enroll", "CN=d", generate="ec:P-256", subject_alternative_names=SANS)


def test_alternative_names_may_be_spelled_otherwise_and_more(
    run: Run, mac: Context, ca: Entity, issuer: Issuer
) -> None:
    issuer.names = [
        x509.DNSName("more.example"),
        x509.DNSName("device.EXAMPLE"),
        x509.DirectoryName(name("DEVICE 17")),
        SANS[2],
    ]
    assert run(peer_of(ca, issuer), mac, "enroll", "CN=d", generate="ec:P-256", subject_alternative_names=SANS)


def test_a_certificate_without_any_or_with_nonsense_lacks_them(ca: Entity) -> None:
    wanted = Asked(names=x509.SubjectAlternativeName(SANS).public_bytes())
    plain = Issuer(ca)
    certificate = plain(
        name("d").public_bytes(),
        ca.certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )
    with pytest.raises(BadMessage, match="lacks"):
        check_names(wanted, certificate, b"")
    with pytest.raises(BadMessage, match="do not decode"):
        check_names(wanted, b"0\x00", b"")
    with pytest.raises(BadMessage, match="subject"):
        check_names(Asked(subject=name("d").public_bytes()), b"", b"0\x01")


# -- validity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begins", "ends", "problem"),
    [(-2, -1, "any more"), (3, 30, "not valid yet"), (-1, 30, None), (0.5, 30, None)],
)
def test_a_certificate_must_be_in_force(
    run: Run, mac: Context, ca: Entity, issuer: Issuer, begins: float, ends: float, problem: str | None
) -> None:
    issuer.begins, issuer.ends = timedelta(days=begins), timedelta(days=ends)
    peer = peer_of(ca, issuer)
    if problem is None:
        assert run(peer, mac, "enroll", "CN=d", generate="ec:P-256")
        return
    with pytest.raises(BadMessage, match=problem):
        run(peer, mac, "enroll", "CN=d", generate="ec:P-256")
    assert refused(peer)[0] is PKIStatus.REJECTION


def test_it_may_begin_when_it_was_asked_to(run: Run, mac: Context, ca: Entity, issuer: Issuer) -> None:
    issuer.begins = timedelta(days=10)
    wished = (datetime.now(UTC) + timedelta(days=10), datetime.now(UTC) + timedelta(days=30))
    assert run(peer_of(ca, issuer), mac, "enroll", "CN=d", generate="ec:P-256", validity=wished)


def test_a_validity_that_does_not_decode_is_refused() -> None:
    class Odd:
        @property
        def not_valid_before_utc(self) -> datetime:
            raise ValueError("year 0")

    with pytest.raises(BadMessage, match="validity does not decode"):
        check_validity(Asked(), Odd())  # type: ignore[arg-type]


# -- issuer -------------------------------------------------------------------------------------------------------


def signer(ca: Entity, server: Entity, device: Entity, issuer: Issuer) -> tuple[Context, Scripted]:
    context = Context(credential=Signer(device.certificate, device.key), trusted=[ca.certificate])
    protector = SignatureProtector(Signer(server.certificate, server.key))
    return context, Scripted(ca, protector, trust=Trust([ca.der]), issue=issuer)


def test_one_that_its_issuer_did_not_sign_is_refused(
    run: Run, ca: Entity, server_entity: Entity, device: Entity
) -> None:
    impostor = certify("ca", ec.generate_private_key(ec.SECP256R1()), is_ca=True)
    context, peer = signer(ca, server_entity, device, Issuer(impostor))
    with pytest.raises(ProtectionError, match="not signed by its issuer"):
        run(peer, context, "enroll", "CN=d", generate="ec:P-256")
    status, _, text = refused(peer)
    assert status is PKIStatus.REJECTION
    assert "does not trust the issuer" in text[0]


def test_one_of_a_new_key_of_the_issuer_is_taken(run: Run, ca: Entity, server_entity: Entity, device: Entity) -> None:
    fresh = certify("ca", ec.generate_private_key(ec.SECP256R1()), is_ca=True)
    issuer = Issuer(fresh)
    issuer.key_id = x509.SubjectKeyIdentifier.from_public_key(fresh.key.public_key()).digest
    context, peer = signer(ca, server_entity, device, issuer)
    assert run(peer, context, "enroll", "CN=d", generate="ec:P-256").certificate


def test_caPubs_say_who_the_issuer_is(run: Run, mac: Context, ca: Entity, issuer: Issuer) -> None:  # noqa: N802
    impostor = certify("ca", ec.generate_private_key(ec.SECP256R1()), is_ca=True)
    assert run(peer_of(ca, issuer, ca_pubs=(ca.der, impostor.der)), mac, "enroll", "CN=d", generate="ec:P-256")
    with pytest.raises(ProtectionError, match="not signed by its issuer"):
        run(peer_of(ca, issuer, ca_pubs=(impostor.der,)), mac, "enroll", "CN=d", generate="ec:P-256")


def test_what_cannot_be_checked_is_not(ca: Entity, issuer: Issuer) -> None:
    rsa_like = certify("ca", ec.generate_private_key(ec.SECP384R1()), is_ca=True)
    certificate = issuer(
        name("d").public_bytes(),
        rsa_like.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )
    issuer_name = name("ca").public_bytes()
    check_issuer(certificate, issuer_name, [b"nonsense"], None)
    check_issuer(certificate, name("nobody").public_bytes(), [ca.der], None)
    with pytest.raises(BadMessage, match="does not decode"):
        check_issuer(b"0\x00", issuer_name, [ca.der], None)


# -- elsewhere ----------------------------------------------------------------------------------------------------


def test_the_callers_own_check_comes_last_and_only_for_what_passed(
    run: Run, mac: Context, ca: Entity, issuer: Issuer
) -> None:
    seen = []

    def confirm(issued: Any) -> None:
        seen.append(issued.certificate)
        raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "not for us")

    peer = peer_of(ca, issuer)
    with pytest.raises(Rejected, match="not for us"):
        run(peer, mac, "enroll", "CN=d", generate="ec:P-256", confirm=confirm)
    assert refused(peer)[1:] == ((FailureInfo.BAD_CERT_TEMPLATE,), ("not for us",))
    issuer.subject = name("other")
    with pytest.raises(BadMessage, match="subject"):
        run(peer_of(ca, issuer), mac, "enroll", "CN=d", generate="ec:P-256", confirm=confirm)
    assert len(seen) == 1


def test_a_certificate_confirmed_implicitly_is_refused_too(run: Run, mac: Context, ca: Entity, issuer: Issuer) -> None:
    issuer.subject = name("other")
    peer = peer_of(ca, issuer, grant_implicit=True)
    with pytest.raises(BadMessage, match="subject"):
        run(peer, mac, "enroll", "CN=d", generate="ec:P-256", implicit_confirm=True)
    assert peer.kinds == [BodyType.IR]


def test_what_was_asked_for_is_remembered_while_it_waits(run: Run, mac: Context, ca: Entity, issuer: Issuer) -> None:
    issuer.names = [x509.DNSName("other.example")]
    peer = peer_of(ca, issuer, waits=1)
    wished = (datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=30))
    pending = run(
        peer, mac, "enroll", "CN=d", generate="ec:P-256", subject_alternative_names=SANS, validity=wished, wait=False
    )
    saved = Pending.load(pending.save())
    assert (saved.subject, saved.names, saved.begins) == (pending.subject, pending.names, wished[0].timestamp())
    with pytest.raises(BadMessage, match="alternative names"):
        run(peer, mac, "resume", saved)
    assert refused(peer)[0] is PKIStatus.REJECTION


def test_what_is_compared_is_what_a_pending_holds() -> None:
    fields = {field.name for field in dataclasses.fields(Asked)}
    assert fields <= set(inspect.signature(Pending).parameters)
