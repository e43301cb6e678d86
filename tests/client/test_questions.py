"""The typed questions, on any OpenSSL."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from opensslcmp import BadMessage, Context, FailureInfo, ProtectionError, Session
from opensslcmp.asn1 import (
    CertReqTemplateContent,
    CertTemplate,
    InfoTypeAndValue,
    RootCaKeyUpdateContent,
    encode_info,
    key_spec,
    oids,
    tlv,
)
from opensslcmp.context.protection import MacProtector
from tests.client.client_peers import SECRET, Entity, blocking, certify, name
from tests.client.scripted import Scripted

Ask = Callable[..., Session]


@pytest.fixture(params=[Session, blocking], ids=["sync", "async"])
def ask(ca: Entity, request: pytest.FixtureRequest) -> Ask:
    """A session with a server that answers a genm with this value."""

    def make(oid: str, value: Any, **options: Any) -> Session:
        def info(items: list[InfoTypeAndValue]) -> list[InfoTypeAndValue]:
            return [encode_info(oid, value)]

        peer = Scripted(ca, MacProtector(SECRET), secret=SECRET, info=info)
        session: Session = request.param(Context(credential=SECRET, **options), peer)
        return session

    return make


def test_ca_certificates(ask: Ask, ca: Entity) -> None:
    assert ask(oids.IT_CA_CERTS, [ca.der]).ca_certificates() == (ca.certificate,)
    assert ask(oids.IT_CA_CERTS, None).ca_certificates() == ()


def _of_another_version(ca: Entity) -> bytes:
    return ca.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1)


@pytest.mark.parametrize("spoil", [_of_another_version, lambda ca: ca.der.replace(b"\x17\x0d", b"\x16\x0d")])
def test_a_certificate_that_is_none_is_a_bad_message(ask: Ask, ca: Entity, spoil: Callable[[Entity], bytes]) -> None:
    with pytest.raises(BadMessage) as caught:
        ask(oids.IT_CA_CERTS, [spoil(ca)]).ca_certificates()
    assert caught.value.failure is FailureInfo.BAD_DATA_FORMAT


def test_an_answer_to_another_question_is_refused(ask: Ask) -> None:
    with pytest.raises(BadMessage, match="caCerts"):
        ask(oids.IT_SUPP_LANG_TAGS, ["en"]).ca_certificates()


def test_any_value_is_handed_out(ask: Ask) -> None:
    (info,) = ask("1.2.3.4", b"\x04\x01x").request_info(("1.2.3.4", b"\x05\x00"))
    assert (info.oid, info.value) == ("1.2.3.4", b"\x04\x01x")


def cross(subject: Entity, issuer: Entity) -> bytes:
    """A CA certificate for ``subject``'s key by ``issuer``'s."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject.certificate.subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(subject.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer.key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def root(text: str = "ca") -> Entity:
    return certify(text, ec.generate_private_key(ec.SECP256R1()), is_ca=True)


def update(new: bytes, new_with_old: bytes | None, old_with_new: bytes | None = None) -> RootCaKeyUpdateContent:
    return RootCaKeyUpdateContent(
        new_with_new=tlv(new),
        new_with_old=None if new_with_old is None else tlv(new_with_old),
        old_with_new=None if old_with_new is None else tlv(old_with_new),
    )


def test_a_new_root_is_accepted_when_the_old_one_vouches_for_it(ask: Ask) -> None:
    old, new = root(), root()
    content = update(new.der, cross(new, old), cross(old, new))
    session = ask(oids.IT_ROOT_CA_KEY_UPDATE, content, trusted=old.certificate)
    result = session.root_ca_update()
    assert result is not None
    assert result.new_with_new == new.certificate
    assert result.old_with_new is not None
    assert ask(oids.IT_ROOT_CA_KEY_UPDATE, None).root_ca_update(old.certificate) is None


@pytest.mark.parametrize("trick", ["nothing", "another old", "another new", "another back", "not self-signed"])
def test_a_new_root_that_the_old_one_does_not_vouch_for_is_refused(ask: Ask, trick: str) -> None:
    old, new, stranger = root(), root(), root()
    content = {
        "nothing": update(new.der, None),
        "another old": update(new.der, cross(new, stranger)),
        "another new": update(stranger.der, cross(new, old)),
        "another back": update(new.der, cross(new, old), cross(stranger, new)),
        "not self-signed": update(cross(new, stranger), cross(new, old)),
    }[trick]
    with pytest.raises(ProtectionError) as caught:
        ask(oids.IT_ROOT_CA_KEY_UPDATE, content).root_ca_update(old.certificate)
    assert caught.value.failure is FailureInfo.SIGNER_NOT_TRUSTED


def _made(
    subject: Entity,
    issuer: Entity,
    *,
    own: bytes | None = None,
    authority: bytes | None = None,
    is_ca: bool = True,
    certifies: bool = True,
    ended: bool = False,
    by: str | None = None,
) -> bytes:
    """A certificate for ``subject`` by ``issuer``, with whatever is to be wrong in it."""
    now = datetime.now(UTC)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject.certificate.subject)
        .issuer_name(issuer.certificate.subject if by is None else name(by))
        .public_key(subject.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=-1 if ended else 30))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=certifies, **usage), critical=True)
    )
    if own is not None:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(own), critical=False)
    if authority is not None:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(authority, None, None), critical=False)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


HOSTILE: dict[str, Callable[[Entity, Entity], RootCaKeyUpdateContent]] = {
    "newWithOld ended": lambda old, new: update(new.der, _made(new, old, ended=True)),
    "newWithOld is no CA's": lambda old, new: update(new.der, _made(new, old, is_ca=False)),
    "newWithOld may not sign certificates": lambda old, new: update(new.der, _made(new, old, certifies=False)),
    "newWithOld names another issuer": lambda old, new: update(new.der, _made(new, old, by="other")),
    "newWithOld is for another key identifier": lambda old, new: update(new.der, _made(new, old, own=b"other")),
    "newWithOld is by another key identifier": lambda old, new: update(new.der, _made(new, old, authority=b"other")),
    "newWithNew ended": lambda old, new: update(_made(new, new, ended=True), _made(new, old)),
    "newWithNew is no CA's": lambda old, new: update(_made(new, new, is_ca=False), _made(new, old)),
    "newWithNew may not sign certificates": lambda old, new: update(_made(new, new, certifies=False), _made(new, old)),
    "newWithNew is by another key identifier": lambda old, new: update(
        _made(new, new, own=b"new", authority=b"other"), _made(new, old)
    ),
    "oldWithNew ended": lambda old, new: update(new.der, _made(new, old), _made(old, new, ended=True)),
    "oldWithNew is signed by the old key": lambda old, new: update(new.der, _made(new, old), _made(old, old)),
    "oldWithNew names another issuer": lambda old, new: update(new.der, _made(new, old), _made(old, new, by="other")),
    "oldWithNew has another key identifier": lambda old, new: update(
        new.der, _made(new, old), _made(old, new, own=b"other")
    ),
    "a damaged newWithOld": lambda old, new: update(new.der, _made(new, old)[:-1] + b"!"),
}


@pytest.mark.parametrize("trick", HOSTILE)
def test_a_hostile_update_of_a_root_is_refused(ask: Ask, trick: str) -> None:
    old, new = root(), root()
    with pytest.raises(ProtectionError) as caught:
        ask(oids.IT_ROOT_CA_KEY_UPDATE, HOSTILE[trick](old, new)).root_ca_update(old.certificate)
    assert caught.value.failure is FailureInfo.SIGNER_NOT_TRUSTED


def test_an_update_with_all_that_may_be_in_it_is_accepted(ask: Ask) -> None:
    old, new = root(), root("the new ca")
    ids = [x509.SubjectKeyIdentifier.from_public_key(each.key.public_key()).digest for each in (old, new)]
    content = update(
        _made(new, new, own=ids[1], authority=ids[1]),
        _made(new, old, own=ids[1], authority=ids[0]),
        _made(old, new, own=ids[0], authority=ids[1]),
    )
    result = ask(oids.IT_ROOT_CA_KEY_UPDATE, content).root_ca_update(old.certificate)
    assert result is not None
    assert result.new_with_new.subject == new.certificate.subject


def test_a_root_that_is_over_vouches_for_nobody(ask: Ask) -> None:
    key, new = root(), root()
    old = _made(key, key, ended=True)
    with pytest.raises(ProtectionError, match="the root held is not valid now"):
        ask(oids.IT_ROOT_CA_KEY_UPDATE, update(new.der, cross(new, key))).root_ca_update(old)


def test_the_template_of_requests(ask: Ask) -> None:
    template = CertTemplate(subject=tlv(name("device").public_bytes()))
    content = CertReqTemplateContent(cert_template=template, key_spec=[key_spec(3072)])
    result = ask(oids.IT_CERT_REQ_TEMPLATE, content).certificate_request_template(profile="router")
    assert result is not None
    assert result.subject == name("device")
    assert result.keys == (3072,)
    assert ask(oids.IT_CERT_REQ_TEMPLATE, None).certificate_request_template() is None


def crl(issuer: Entity, age: timedelta) -> x509.CertificateRevocationList:
    now = datetime.now(UTC).replace(microsecond=0)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    return builder.last_update(now - age).next_update(now + timedelta(days=1)).sign(issuer.key, hashes.SHA256())


@pytest.mark.parametrize("content", [b"\x30\x00", b"\x02\x01\x09"])
def test_a_crl_that_is_none_is_a_bad_message(ask: Ask, ca: Entity, content: bytes) -> None:
    held = crl(ca, timedelta(days=2))
    whole = held.public_bytes(Encoding.DER)
    name_at = whole.index(b"\x04\x03\x0c") + 4
    not_utf8 = whole[:name_at] + b"\xff" + whole[name_at + 1 :]
    for spoiled in whole.replace(b"\x02\x01\x01", content, 1), not_utf8:
        with pytest.raises(BadMessage):
            ask(oids.IT_CRLS, [spoiled]).crl_update(held)


def test_a_newer_crl(ask: Ask, ca: Entity, issued: Entity) -> None:
    old, new = crl(ca, timedelta(days=2)), crl(ca, timedelta(days=1))
    der = new.public_bytes(Encoding.DER)
    assert ask(oids.IT_CRLS, [der]).crl_update(old) == new
    assert ask(oids.IT_CRLS, [der]).crl_update(certificate=issued.certificate) == new
    assert ask(oids.IT_CRLS, None).crl_update(old.public_bytes(Encoding.PEM)) is None
    with pytest.raises(BadMessage, match="newer"):
        ask(oids.IT_CRLS, [der]).crl_update(new)
    with pytest.raises(BadMessage, match="another issuer"):
        ask(oids.IT_CRLS, [crl(root("other"), timedelta(0)).public_bytes(Encoding.DER)]).crl_update(old)
    with pytest.raises(ValueError, match="needed"):
        ask(oids.IT_CRLS, [der]).crl_update()


def test_openssl_checks_the_answer_where_something_may_be_encrypted(ca: Entity) -> None:
    peer = Scripted(ca, MacProtector(SECRET), secret=SECRET)
    result = Session(Context(credential=SECRET, popo="keyEnc"), peer).enroll("CN=device", generate="rsa:2048")
    assert result.certificate.subject == name("device")
    assert result.transaction_id in peer.confirmed


def test_a_crl_is_verified_by_an_issuer_that_is_known(ask: Ask, ca: Entity, issued: Entity) -> None:
    impostor = root("ca")
    good, bad = (crl(each, timedelta(0)).public_bytes(Encoding.DER) for each in (ca, impostor))
    held: list[dict[str, Any]] = [
        {"trusted": ca.certificate},
        {"untrusted": ca.certificate},
        {"certificates_trusted": ca.certificate},
    ]
    for options in held:
        assert ask(oids.IT_CRLS, [good], **options).crl_update(certificate=issued.certificate) is not None
        with pytest.raises(ProtectionError, match="not signed by its issuer") as caught:
            ask(oids.IT_CRLS, [bad], **options).crl_update(certificate=issued.certificate)
        assert caught.value.failure is FailureInfo.SIGNER_NOT_TRUSTED
    session = ask(oids.IT_CRLS, [bad])
    with pytest.raises(ProtectionError):
        session.crl_update(certificate=issued.certificate, issuer=ca.certificate)
    with pytest.raises(ProtectionError):
        ask(oids.IT_CRLS, [good], trusted=ca.certificate).crl_update(
            certificate=issued.certificate, issuer=impostor.certificate
        )


def test_an_issuer_in_the_answer_counts_only_with_a_path_to_an_anchor(ca: Entity) -> None:
    between = certify("between", ec.generate_private_key(ec.SECP256R1()), ca, is_ca=True)
    impostor = root("between")
    leaf = certify("leaf", ec.generate_private_key(ec.SECP256R1()), between)

    def asked(signer: Entity, brought: Entity) -> x509.CertificateRevocationList | None:
        value = encode_info(oids.IT_CRLS, [crl(signer, timedelta(0)).public_bytes(Encoding.DER)])
        peer = Scripted(brought, MacProtector(SECRET), secret=SECRET, info=lambda items: [value])
        session = Session(Context(credential=SECRET, trusted=ca.certificate), peer)
        return session.crl_update(certificate=leaf.certificate)

    assert asked(between, between) is not None
    with pytest.raises(ProtectionError, match="not signed by its issuer"):
        asked(impostor, between)
    # Nobody vouches for this one: the CRL is as good as the answer, as crl_update says.
    assert asked(impostor, impostor) is not None
