"""genm: each infoType, what it is answered with, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from opensslcmp.asn1 import (
    CRLStatus,
    InfoTypeAndValue,
    Message,
    decode_info,
    encode,
    encode_info,
    encode_list,
    oids,
    wrap,
)
from opensslcmp.context.certificates import facts
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.server import CA, IssuingProfile, Knowledge, RootUpdate
from opensslcmp.server.rules import LENIENT, RFC9810, STRICT
from tests.server.device import Device, said, status_of
from tests.server.world import World

B, F = BodyType, FailureInfo
P256, RSA = "1.2.840.10045.2.1", "1.2.840.113549.1.1.1"


def ask(device: Device, *items: InfoTypeAndValue, **fields: Any) -> Message:
    device.begin()
    return device.send(B.GENM, list(items), **fields)


def value(device: Device, oid: str, given: Any = None, **fields: Any) -> Any:
    """The decoded value of the only item of the answer."""
    answer = ask(device, encode_info(oid, given), **fields)
    assert answer.body_type is B.GENP, status_of(answer)
    (item,) = answer.content()
    expected = {
        oids.IT_ROOT_CA_CERT: oids.IT_ROOT_CA_KEY_UPDATE,
        oids.IT_CRL_STATUS_LIST: oids.IT_CRLS,
        oids.IT_KEY_PAIR_PARAM_REQ: oids.IT_KEY_PAIR_PARAM_REP,
    }
    assert item.oid == expected.get(oid, oid)
    return decode_info(item)


Rollover = tuple[bytes, bytes, bytes, bytes, bytes]


@pytest.fixture(scope="session")
def rollover() -> Rollover:
    """The old root, newWithNew, newWithOld, oldWithNew, and an oldWithNew that names the old key as its issuer's."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    name = x509.Name.from_rfc4514_string("CN=Root")

    def certificate(subject: int, issuer: int, identifier: int | None = None) -> bytes:
        begin = datetime.now(UTC) - timedelta(days=1)
        named = keys[issuer if identifier is None else identifier].public_key()
        return (
            x509.CertificateBuilder(name, name, keys[subject].public_key(), x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=100))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[subject].public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(named), critical=False)
            .sign(keys[issuer], hashes.SHA256())
            .public_bytes(serialization.Encoding.DER)
        )

    mistaken = certificate(0, 1, identifier=0)
    return certificate(0, 0), certificate(1, 1), certificate(1, 0), certificate(0, 1), mistaken


def test_ca_certificates_are_the_whole_chain(world: World, device: Device) -> None:
    assert value(device, oids.IT_CA_CERTS) == [world.ca.certificate]


def test_a_root_that_did_not_change_has_no_update(world: World, device: Device) -> None:
    assert value(device, oids.IT_ROOT_CA_CERT, world.ca.certificate) is None
    assert value(device, oids.IT_ROOT_CA_CERT) is None


def test_a_roots_update_is_told_to_who_holds_the_old_root(make: Callable[..., World], rollover: Rollover) -> None:
    old, *update = rollover[:4]
    device = make(ca_knowledge=Knowledge(root_updates=(RootUpdate.of(update),))).device()
    for asked in (old, None):
        told = value(device, oids.IT_ROOT_CA_CERT, asked)
        assert [encode(each) for each in (told.new_with_new, told.new_with_old, told.old_with_new)] == update
    assert value(device, oids.IT_ROOT_CA_CERT, update[0]) is None


def test_a_roots_update_is_not_told_to_who_holds_another(make: Callable[..., World], rollover: Rollover) -> None:
    world = make(ca_knowledge=Knowledge(root_updates=(RootUpdate.of(rollover[1:3]),)))
    assert value(world.device(), oids.IT_ROOT_CA_CERT, world.ca.certificate) is None
    answer = ask(world.device(), InfoTypeAndValue.make(oids.IT_ROOT_CA_CERT, b"\x30\x00"))
    assert said(answer) == (B.ERROR, F.BAD_DATA_FORMAT)


@pytest.mark.parametrize("order", [(1,), (0, 2), (2, 1), (1, 1), (1, 2, 0), (1, 2, 1), (1, 3), (1, 2, 4)])
def test_certificates_that_are_no_update_are_refused(rollover: Rollover, order: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"root's update|newWithNew|newWithOld|oldWithNew"):
        RootUpdate.of([rollover[at] for at in order])


def test_what_is_no_certificate_is_no_update() -> None:
    with pytest.raises(ValueError, match="root's update"):
        RootUpdate.of([b"\x30\x00", b"\x30\x00"])


def test_what_lies_in_the_cas_directory_is_told(tmp_path: Path, rollover: Rollover) -> None:
    CA.create(tmp_path, "CN=CA").close()

    def pem(certificates: tuple[bytes, ...]) -> bytes:
        loaded = [x509.load_der_x509_certificate(each) for each in certificates]
        return b"".join([each.public_bytes(serialization.Encoding.PEM) for each in loaded])

    (tmp_path / "root-update.pem").write_bytes(pem(rollover[1:4]))
    (tmp_path / "encryption.pem").write_bytes(pem(rollover[:1]))
    ca = CA.open(tmp_path)
    assert ca.knowledge.root_updates[0].new_with_new == rollover[1]
    assert ca.knowledge.encryption_certificate == rollover[0]
    ca.close()
    (tmp_path / "root-update.pem").write_bytes(pem(rollover[:2]))
    with pytest.raises(ValueError, match="newWithOld"):
        CA.open(tmp_path)


def test_the_encryption_certificate_is_told(make: Callable[..., World], rollover: Rollover) -> None:
    device = make(ca_knowledge=Knowledge(encryption_certificate=rollover[0])).device()
    assert value(device, oids.IT_CA_PROT_ENC_CERT) == rollover[0]


def test_no_encryption_certificate_is_told_too(device: Device) -> None:
    assert value(device, oids.IT_CA_PROT_ENC_CERT) is None


def test_algorithms_are_those_of_the_profile(make: Callable[..., World]) -> None:
    world = make(ca_profiles=[IssuingProfile(), IssuingProfile(name="rsa", key_types=frozenset(("rsa",)))])
    device = world.device()
    rsa = [encode_info(oids.IT_CERT_PROFILE, ["rsa"])]
    signing = [each.oid for each in value(device, oids.IT_SIGN_KEY_PAIR_TYPES)]
    assert signing[0] == P256
    assert RSA in signing
    assert "1.3.101.112" in signing
    assert [each.oid for each in value(device, oids.IT_SIGN_KEY_PAIR_TYPES, general_info=rsa)] == [RSA]
    assert value(device, oids.IT_ENC_KEY_PAIR_TYPES)[0].oid == RSA
    assert value(device, oids.IT_PREFERRED_SYMM_ALG).oid == "2.16.840.1.101.3.4.1.42"
    assert value(device, oids.IT_KEY_PAIR_PARAM_REQ, P256).oid == P256
    assert value(device, oids.IT_KEY_PAIR_PARAM_REQ, P256, general_info=rsa) is None
    assert value(device, oids.IT_KEY_PAIR_PARAM_REQ, "1.2.3") is None


@pytest.mark.parametrize(
    ("kinds", "spec"),
    [
        (("rsa",), 3072),
        (("rsa", "ec:P-384"), P256),
        (("ed448",), "1.3.101.113"),
        (("ml-dsa-65",), None),
    ],
)
def test_a_request_template_proposes_one_key(make: Callable[..., World], kinds: tuple[str, ...], spec: object) -> None:
    device = make(ca_profiles=[IssuingProfile(key_types=frozenset(kinds), min_rsa_bits=3072)]).device()
    content = value(device, oids.IT_CERT_REQ_TEMPLATE)
    template = content.cert_template
    assert template.public_key is template.serial_number is template.signing_alg is None
    found = [key if isinstance(key, int) else key.oid for key in content.keys]
    assert found == ([] if spec is None else [spec])


def test_an_unknown_cert_profile_is_refused_for_information_too(device: Device) -> None:
    answer = ask(
        device,
        encode_info(oids.IT_CERT_REQ_TEMPLATE),
        general_info=[encode_info(oids.IT_CERT_PROFILE, ["nonsense"])],
    )
    assert said(answer) == (B.ERROR, F.BAD_CERT_TEMPLATE)


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["de", "en-GB", "en"], "en-GB"), (["EN"], "EN"), (["fr", "de"], None), (["eng"], None)]
)
def test_one_language_is_chosen(device: Device, offered: list[str], chosen: str | None) -> None:
    if chosen is not None:
        assert value(device, oids.IT_SUPP_LANG_TAGS, offered) == [chosen]
        return
    assert said(ask(device, encode_info(oids.IT_SUPP_LANG_TAGS, offered))) == (B.ERROR, F.BAD_REQUEST)


def test_a_crl_is_told_when_it_is_newer(make: Callable[..., World]) -> None:
    world = make(ca_profiles=[IssuingProfile(crl_url="http://a.example/crl")])
    device = world.device()
    now = datetime.fromtimestamp(world.clock.now, UTC)
    issuer = facts(world.ca.certificate).subject
    other = issuer[:-1] + b"x"
    assert value(device, oids.IT_CURRENT_CRL) == world.ca.crl()
    for status, told in (
        (CRLStatus.of_issuer(issuer), True),
        (CRLStatus.of_issuer(issuer, now - timedelta(days=1)), True),
        (CRLStatus.of_issuer(issuer, now), False),
        (CRLStatus.of_issuer(other), False),
        (CRLStatus.of_url("http://a.example/crl"), True),
        (CRLStatus.of_url("http://a.example/other"), False),
    ):
        assert value(device, oids.IT_CRL_STATUS_LIST, [status]) == ([world.ca.crl()] if told else None)
    issuer_without_list = b"\xa1" + bytes([len(issuer) + 2]) + b"\xa4" + bytes([len(issuer)]) + issuer
    answer = ask(device, InfoTypeAndValue.make(oids.IT_CRL_STATUS_LIST, wrap(0x30, wrap(0x30, issuer_without_list))))
    assert said(answer) == (B.ERROR, F.BAD_DATA_FORMAT)


def test_a_list_leaves_out_what_is_not_known(make: Callable[..., World]) -> None:
    device = make(profile=dataclasses.replace(RFC9810, max_infos=3)).device()
    unknown = InfoTypeAndValue.make("1.2.3.4")
    answer = ask(device, unknown, encode_info(oids.IT_CA_CERTS), encode_info(oids.IT_CURRENT_CRL))
    assert [each.oid for each in answer.content()] == [oids.IT_CA_CERTS, oids.IT_CURRENT_CRL]
    assert said(ask(device, unknown)) == (B.ERROR, F.BAD_REQUEST)
    assert said(ask(device, unknown, unknown)) == (B.ERROR, F.BAD_REQUEST)
    assert said(ask(device, *[encode_info(oids.IT_CA_CERTS)] * 4)) == (B.ERROR, F.BAD_REQUEST)


@pytest.mark.parametrize("profile", [RFC9810, STRICT])
@pytest.mark.parametrize(
    "oid",
    [
        oids.IT_CA_PROT_ENC_CERT,
        oids.IT_SIGN_KEY_PAIR_TYPES,
        oids.IT_ENC_KEY_PAIR_TYPES,
        oids.IT_PREFERRED_SYMM_ALG,
        oids.IT_CURRENT_CRL,
        oids.IT_CA_CERTS,
        oids.IT_CERT_REQ_TEMPLATE,
    ],
)
def test_a_value_where_none_belongs_is_refused(make: Callable[..., World], profile: Any, oid: str) -> None:
    device = make(profile=profile).device()
    item = InfoTypeAndValue.make(oid, encode_list([encode(1)]))
    assert said(ask(device, item)) == (B.ERROR, F.BAD_REQUEST)
    device.handle = make(profile=LENIENT).responder.handle
    assert said(ask(device, item)) == (B.GENP, None)


@pytest.mark.parametrize(
    "oid", [oids.IT_CRL_STATUS_LIST, oids.IT_SUPP_LANG_TAGS, oids.IT_KEY_PAIR_PARAM_REQ, oids.IT_ROOT_CA_CERT]
)
def test_a_value_of_another_type_is_refused(device: Device, oid: str) -> None:
    assert said(ask(device, InfoTypeAndValue.make(oid, b"\x02\x01\x05"))) == (B.ERROR, F.BAD_DATA_FORMAT)


def test_an_empty_genm_asks_for_everything(world: World) -> None:
    answer = ask(world.device())
    assert answer.body_type is B.GENP, status_of(answer)
    told = {item.oid: decode_info(item) for item in answer.content()}
    assert {oids.IT_SIGN_KEY_PAIR_TYPES, oids.IT_PREFERRED_SYMM_ALG, oids.IT_CURRENT_CRL} <= told.keys()
    assert None not in told.values()
