"""A CA in a directory."""

from __future__ import annotations

import ipaddress
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from opensslcmp.asn1 import Extension, admit, encode, wrap
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import Rejected
from opensslcmp.server import CA, IssuingProfile, open_responder
from opensslcmp.server.profile import key_usage
from opensslcmp.server.rules import STRICT
from tests.server.device import KEYS, certificate_of, crmf, extension, mac_device, name, said
from tests.server.world import Clock, World

B, F = BodyType, FailureInfo


@pytest.mark.parametrize("key", ["ec:P-256", "rsa:2048", "ed25519"])
def test_a_ca_is_made_opened_and_answers(tmp_path: Path, key: str, clock: Clock) -> None:
    directory = tmp_path / "deep" / "ca"
    made = CA.create(directory, "CN=Test CA,O=Test", key)
    assert made.add_secret("device", "Tr0ub4dor") == b"Tr0ub4dor"
    made.close()
    assert directory.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca.key": 0o600, "ca.db": 0o600, "vault.key": 0o600, "ca.crl": 0o644} | {
        name: 0o600 for name in modes if name.startswith("ca.db-")
    }
    certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    certificate.verify_directly_issued_by(certificate)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert usage.crl_sign
    assert usage.digital_signature
    responder = open_responder(directory, clock=clock)
    device = mac_device(responder.handle, clock, "device", "Tr0ub4dor")
    issued = x509.load_der_x509_certificate(device.enroll(KEYS[0]))
    issued.verify_directly_issued_by(certificate)
    responder.close()
    crl = x509.load_der_x509_crl((directory / "ca.crl").read_bytes())
    assert crl.issuer == certificate.subject
    assert all(b"Tr0ub4dor" not in path.read_bytes() for path in directory.iterdir())


def test_revocations_are_in_the_file_at_once(tmp_path: Path, clock: Clock) -> None:
    CA.create(tmp_path / "ca").close()
    responder = open_responder(tmp_path / "ca", clock=clock, profile=STRICT)
    ca: Any = responder.authority
    ca.add_secret("device", "secret")
    device = mac_device(responder.handle, clock)
    certificate = x509.load_der_x509_certificate(certificate_of(device.ask(B.IR, crmf(KEYS[0]))))
    assert said(device.send(B.CERT_CONF, [])) == (B.PKICONF, None)
    crl = x509.load_der_x509_crl((tmp_path / "ca" / "ca.crl").read_bytes())
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    responder.close()


def test_state_survives_a_restart(tmp_path: Path, clock: Clock) -> None:
    made = CA.create(tmp_path / "ca")
    made.add_secret("device", "secret")
    made.close()
    first = open_responder(tmp_path / "ca", clock=clock)
    device = mac_device(first.handle, clock)
    answer = device.ask(B.IR, crmf(KEYS[0]))
    request = device.last_request
    first.close()
    second = open_responder(tmp_path / "ca", clock=clock)
    assert second.handle(request) == answer.der
    device.handle = second.handle
    assert said(device.confirm(certificate_of(answer))) == (B.PKICONF, None)
    second.close()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    CA.create(tmp_path / "ca").close()
    before = (tmp_path / "ca" / "ca.key").read_bytes()
    with pytest.raises(FileExistsError):
        CA.create(tmp_path / "ca")
    assert (tmp_path / "ca" / "ca.key").read_bytes() == before


def test_a_key_from_elsewhere_is_not_written_down(tmp_path: Path) -> None:
    key = PrivateKey.generate("ec:P-256")
    CA.create(tmp_path / "ca", key=key).close()
    assert not (tmp_path / "ca" / "ca.key").exists()
    CA.open(tmp_path / "ca", key=key).close()
    with pytest.raises(ValueError, match="not the CA certificate's"):
        CA.open(tmp_path / "ca", key=KEYS[0])
    with pytest.raises(FileNotFoundError):
        CA.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match="profile"):
        open_responder(tmp_path / "ca", key=key, profile="nonsense")


def test_a_ca_needs_a_subject(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="subject"):
        CA.create(tmp_path / "ca", "")


def test_secrets_are_listed_without_their_values(tmp_path: Path) -> None:
    ca = CA.create(tmp_path / "ca")
    generated = ca.add_secret("one")
    ca.add_secret("two", single_use=True)
    assert [(each.reference, each.single_use) for each in ca.list_secrets()] == [(b"one", False), (b"two", True)]
    assert generated.decode() not in repr(ca.list_secrets())
    assert ca.remove_secret("one")
    assert [each.reference for each in ca.list_secrets()] == [b"two"]
    ca.close()


def test_the_crl_is_made_anew_half_way(tmp_path: Path, clock: Clock) -> None:
    ca = CA.create(tmp_path / "ca", clock=clock, crl_days=2)
    first = ca.crl()
    clock.now += 86399
    assert ca.crl() == first
    clock.now += 2
    second = x509.load_der_x509_crl(ca.crl())
    number = second.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert (
        number == x509.load_der_x509_crl(first).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
    )
    assert second.next_update_utc is not None
    assert second.next_update_utc.timestamp() == int(clock.now) + 2 * 86400
    ca.close()


def test_workers_show_the_same_crl_and_its_number_never_goes_back(tmp_path: Path, clock: Clock) -> None:
    def number(crl: bytes) -> int:
        return x509.load_der_x509_crl(crl).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number

    CA.create(tmp_path / "ca", clock=clock).close()
    workers: list[Any] = [open_responder(tmp_path / "ca", clock=clock) for _ in range(3)]
    cas: list[CA] = [worker.authority for worker in workers]
    cas[0].add_secret("device", "secret")
    device = mac_device(workers[0].handle, clock)
    for count in range(1, 4):
        assert len({ca.crl() for ca in cas}) == 1
        assert number(cas[0].crl()) == count
        certificate_of(device.ask(B.IR, crmf(KEYS[0])))
        assert said(device.send(B.CERT_CONF, [])) == (B.PKICONF, None)
        with ThreadPoolExecutor(3) as threads:
            shown = list(threads.map(CA.crl, cas))
        assert len(set(shown)) == 1
        assert len(x509.load_der_x509_crl(shown[0])) == count
        assert (tmp_path / "ca" / "ca.crl").read_bytes() == shown[0]
    for worker in workers:
        worker.close()


def test_the_urls_of_a_ca_are_kept_beside_it(tmp_path: Path, clock: Clock) -> None:
    crl_url, issuer_url = "http://ca.example/pki/ca.crl", "http://ca.example/pki/ca.cer"
    CA.create(tmp_path / "ca", crl_url=crl_url, issuer_url=issuer_url).close()
    with closing(CA.open(tmp_path / "ca")) as ca:
        assert (ca.settings.crl_url, ca.settings.issuer_url, ca.settings.crl_path) == (
            crl_url,
            issuer_url,
            "/pki/ca.crl",
        )
        assert ca.profiles["default"].crl_url == crl_url
    own = IssuingProfile(crl_url="http://other.example/crl")
    with closing(CA.open(tmp_path / "ca", profiles=[own])) as ca:
        assert ca.profiles["default"].crl_url == "http://other.example/crl"
    CA.create(tmp_path / "silent").close()
    assert not (tmp_path / "silent" / "opensslcmp.toml").exists()
    with closing(CA.open(tmp_path / "silent")) as ca:
        assert ca.settings.crl_path is None


@pytest.mark.parametrize(
    "url",
    ["ca.example/crl", "ftp://ca.example/crl", "http://ca.example", "http://ca.example/", "http:///crl",
     "http://ca.example/.well-known/cmp", 'http://ca.example/"crl', "http://ca.example/c rl", "http://cä.example/crl"],
)  # fmt: skip
def test_a_url_that_is_none_makes_no_ca(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match="crl_url"):
        CA.create(tmp_path / "ca", crl_url=url)
    assert not (tmp_path / "ca").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [("crl_url = nonsense\n", "toml:1: "), ("crl-url = 'http://a/b'", "did you mean crl_url"), ("crl_url = 5", "crl_url"),
     ("crl_url = 'nonsense'", "crl_url")],
)  # fmt: skip
def test_settings_that_are_not_known_are_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    CA.create(tmp_path / "ca").close()
    (tmp_path / "ca" / "opensslcmp.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        CA.open(tmp_path / "ca")


def test_certificates_tell_where_crl_and_issuer_are(tmp_path: Path, clock: Clock) -> None:
    CA.create(tmp_path / "ca").close()
    profile = IssuingProfile(
        crl_url="http://ca.example/ca.crl",
        issuer_url="http://ca.example/ca.cer",
        extended_key_usage=("1.3.6.1.5.5.7.3.2",),
        key_usage=("digitalSignature", "keyAgreement", "decipherOnly"),
        subject_pattern=r"CN=dev\d+",
    )
    responder = open_responder(tmp_path / "ca", clock=clock, issuing=[profile])
    ca: Any = responder.authority
    ca.add_secret("device", "secret")
    device = mac_device(responder.handle, clock)
    certificate = x509.load_der_x509_certificate(certificate_of(device.ask(B.IR, crmf(KEYS[0], "CN=dev1"))))
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert [each.value for point in points for each in point.full_name or ()] == ["http://ca.example/ca.crl"]
    access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [each.access_location.value for each in access] == ["http://ca.example/ca.cer"]
    extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2")]
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.decipher_only
    assert not usage.key_encipherment
    assert said(device.ask(B.IR, crmf(KEYS[0], "CN=somebody"))) == (B.IP, F.BAD_CERT_TEMPLATE)
    responder.close()


@pytest.mark.parametrize("broken", [b"", b"\x30\x00", b"\x30\x03\x02\x01\x00"])
def test_a_key_that_does_not_decode_is_a_bad_template(broken: bytes) -> None:
    with pytest.raises(Rejected, match="badCertTemplate"):
        IssuingProfile().check_key(broken)
    with pytest.raises(Rejected, match="badCertTemplate"):
        IssuingProfile(subject_pattern=".*").check_subject(broken + b"\x01")
    IssuingProfile().check_subject(name("CN=x"))


def test_key_usage_has_the_bits_of_the_rfc() -> None:
    assert key_usage("digitalSignature") == bytes.fromhex("03020780")
    assert key_usage("keyCertSign", "cRLSign") == bytes.fromhex("03020106")
    with pytest.raises(ValueError, match="nonsense"):
        key_usage("nonsense")


def test_a_responder_without_secrets_takes_no_mac(tmp_path: Path, clock: Clock) -> None:
    from opensslcmp.server import MemoryStore, Responder

    ca = CA.create(tmp_path / "ca")
    responder = Responder(ca, MemoryStore(), ca.signer, clock=clock)
    device = mac_device(responder.handle, clock)
    assert said(device.ask(B.IR, crmf(KEYS[0]))) == (B.ERROR, F.WRONG_INTEGRITY)
    assert said(device.signing(ca.certificate, PrivateKey.load(ca.signer.key)).ask(B.CR, crmf(KEYS[0]))) == (
        B.ERROR,
        F.WRONG_INTEGRITY,
    )
    assert admit(responder.handle(b"")).protection is not None
    ca.close()


_EC_P256 = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
_RSA = bytes.fromhex("300d06092a864886f70d0101010500")
_ED25519 = bytes.fromhex("300506032b6570")
_ED448 = bytes.fromhex("300506032b6571")


def _rsa_key(modulus: int, exponent: int) -> bytes:
    return wrap(0x30, _RSA + wrap(0x03, b"\0" + wrap(0x30, encode(modulus) + encode(exponent))))


def _point(algorithm: bytes, point: bytes) -> bytes:
    return wrap(0x30, algorithm + wrap(0x03, b"\0" + point))


@pytest.mark.parametrize(
    "key",
    [
        _rsa_key(1 << 2047 | 1, 1),
        _rsa_key(1 << 2047 | 1, 65536),
        _rsa_key(1 << 2047, 65537),
        wrap(0x30, _RSA + wrap(0x03, b"\0\x30\x00")),
        wrap(0x30, _RSA + wrap(0x03, b"\0" + wrap(0x30, encode(1 << 2047 | 1)))),
        _point(_EC_P256, b"\0"),
        _point(_ED25519, (1).to_bytes(32, "little")),
        _point(_ED25519, (2**255 - 19).to_bytes(32, "little")),
        _point(_ED25519, bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")),
        _point(_ED448, (1).to_bytes(57, "little")),
        _point(_ED448, (1).to_bytes(56, "little") + b"\x80"),
    ],
)
def test_a_key_that_anybody_could_sign_for_is_not_certified(key: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        IssuingProfile().check_key(key)
    assert caught.value.failure is F.BAD_CERT_TEMPLATE


@pytest.mark.parametrize("kind", ["ec:P-256", "rsa:2048", "ed25519", "ed448"])
def test_a_key_of_ones_own_is_certified(kind: str) -> None:
    IssuingProfile().check_key(PrivateKey.generate(kind).public_key_der)


@pytest.mark.parametrize(
    "value",
    [
        *("0305006465 76", "0c02ff41", "130180", "1e0141", "020101"),
        *("0403616263", "0c00", "0c03610062", "0c031b5b41", "0c02610a", "1e0400610000", "1c040000007f", "160461000061"),
        "0c821388" + "61" * 5000,
    ],
    ids=lambda value: value[:16],
)
def test_a_subject_that_cannot_be_shown_is_not_issued(world: World, value: str) -> None:
    """An attribute as BIT or OCTET STRING, texts that are none, empty, too long or not for people: lists and logs would
    stumble over them, and others take what stands before a zero for all of it."""
    attribute = bytes.fromhex("0603550403" + value)
    subject = wrap(0x30, wrap(0x31, wrap(0x30, attribute)))
    assert said(world.device().ask(B.IR, crmf(KEYS[0], subject))) == (B.IP, F.BAD_CERT_TEMPLATE)


_ATTRIBUTES = {
    "a": wrap(0x30, bytes.fromhex("06035504030c0161")),
    "b": wrap(0x30, bytes.fromhex("06035504030c0162")),
    "organisation": wrap(0x30, bytes.fromhex("060355040a0c0161")),
}


@pytest.mark.parametrize("pairs", [("a", "a"), ("a", "b"), ("organisation", "a"), ("a", "organisation")])
def test_an_rdn_of_several_attributes_is_in_the_order_of_der_and_has_each_once(
    world: World, pairs: tuple[str, str]
) -> None:
    subject = wrap(0x30, wrap(0x31, b"".join(_ATTRIBUTES[each] for each in pairs)))
    refused = None if pairs == ("a", "organisation") else F.BAD_CERT_TEMPLATE
    assert said(world.device().ask(B.IR, crmf(KEYS[0], subject))) == (B.IP, refused)


@pytest.mark.parametrize(
    "value",
    ["0c02c3a9", "1e0200e9", "1c0400 0000e9", "130161", "160161", "120131", "1303614062"],
    ids=lambda each: each[:4],
)
def test_texts_of_every_kind_are_issued(world: World, value: str) -> None:
    subject = wrap(0x30, wrap(0x31, wrap(0x30, bytes.fromhex("0603550403" + value))))
    assert said(world.device().ask(B.IR, crmf(KEYS[0], subject))) == (B.IP, None)


@pytest.mark.parametrize(
    "names",
    [
        "3000",
        "3013a411300f310d300b06035504030404616263 64",
        "30020500",
        "30048202ff00",
        "30038201" + "00",
        "30028200",
        "30058703010203",
        "3004a4023100",
        "3003880180",
        "30038901" + "61",
    ],
)
def test_a_subject_alt_name_that_does_not_decode_is_not_issued(names: str) -> None:
    san = Extension(extn_id=x509.ObjectIdentifier("2.5.29.17"), extn_value=bytes.fromhex(names))
    with pytest.raises(Rejected) as caught:
        IssuingProfile().extensions((san,), b"0\0", KEYS[0].public_key_der)
    assert caught.value.failure is F.BAD_CERT_TEMPLATE


def test_every_kind_of_alternative_name_is_issued() -> None:
    given = x509.SubjectAlternativeName(
        [
            x509.DNSName("device.example"),
            x509.RFC822Name("device@example.com"),
            x509.UniformResourceIdentifier("urn:device"),
            x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
            x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
            x509.DirectoryName(x509.Name.from_rfc4514_string("CN=device")),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
            x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
        ]
    )
    found, changes = IssuingProfile().extensions((extension(given),), b"0\0", KEYS[0].public_key_der)
    assert given.public_bytes() in [each.extn_value for each in found]
    assert changes == ()


def test_a_key_usage_with_bits_that_have_no_name_is_not_issued() -> None:
    usage = Extension(extn_id=x509.ObjectIdentifier("2.5.29.15"), extn_value=bytes.fromhex("0304008000ff"))
    with pytest.raises(Rejected) as caught:
        IssuingProfile().extensions((usage,), b"0\0", KEYS[0].public_key_der)
    assert caught.value.failure is F.BAD_CERT_TEMPLATE


@pytest.mark.parametrize("subject", ["CN=Test CA", "CN=test  ca"])
def test_nobody_gets_a_certificate_in_the_name_of_the_ca(world: World, subject: str) -> None:
    answer = world.device().ask(B.IR, crmf(KEYS[0], subject))
    assert said(answer) == (B.IP, F.BAD_CERT_TEMPLATE)


def test_a_ca_that_could_not_be_written_leaves_no_half_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            CA.create(tmp_path / "ca")
    assert list((tmp_path / "ca").iterdir()) == []
    CA.create(tmp_path / "ca").close()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660])
def test_a_key_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    CA.create(tmp_path / "ca").close()
    key = tmp_path / "ca" / "ca.key"
    key.chmod(mode)
    with pytest.raises(PermissionError, match=rf"ca\.key can be used by others .*mode 0{mode:o}.*chmod 600 .*ca\.key"):
        CA.open(tmp_path / "ca")
    key.chmod(0o400)
    CA.open(tmp_path / "ca").close()
