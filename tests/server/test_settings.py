"""opensslcmp.toml: what each table does to the server, and what is refused in words."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from opensslcmp.asn1 import encode_info, oids
from opensslcmp.context.certificates import facts
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType as B
from opensslcmp.enums import FailureInfo as F
from opensslcmp.server import CA, Peer, Responder, open_responder
from opensslcmp.server.approval import Approval
from opensslcmp.server.settings import Settings
from opensslcmp.server.tables import SettingsError
from tests.server.device import KEYS, Device, certificate_of, crmf, extension, mac_device, revocation, said
from tests.server.world import Clock, other_ca


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with closing(CA.create(tmp_path / "ca", "CN=Settings CA")) as ca:
        ca.add_secret("device", "secret")
        ca.add_secret("other", "secret")
    return tmp_path / "ca"


class Server:
    """A CA's directory with settings, and devices of its Responder."""

    def __init__(self, directory: Path, text: str, clock: Clock, **options: Any) -> None:
        (directory / "opensslcmp.toml").write_text(text)
        self.clock = clock
        self.responder: Responder = open_responder(directory, clock=clock, **options)

    def device(self, reference: str = "device") -> Device:
        return mac_device(self.responder.handle, self.clock, reference)

    def certificate(self, **fields: Any) -> x509.Certificate:
        answer = self.device().ask(B.IR, crmf(KEYS[0], **fields))
        return x509.load_der_x509_certificate(certificate_of(answer))

    def refused(self, **fields: Any) -> F | None:
        return said(self.device().ask(B.IR, crmf(KEYS[0], **fields)))[1]


def problems(tmp_path: Path, text: str) -> list[str]:
    place = tmp_path / "opensslcmp.toml"
    place.write_text(text)
    with pytest.raises(SettingsError) as caught:
        Settings.load(place)
    return [str(each).removeprefix(f"{place}:") for each in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[rules]\nprofile = "strickt"', ["2: [rules] profile is not known: strickt; did you mean strict?"]),
        (
            '[rules]\non = ["message_time_is_ther"]\noff = ["nonsense", "message_time_is_near"]',
            [
                "2: [rules] on has no such rule: message_time_is_ther; did you mean message_time_is_there or ",
                "3: [rules] off has no such rule: nonsense",
            ],
        ),
        ('[rules]\non = ["reason_is_known"]\noff = ["reason_is_known"]', ["3: [rules] off has reason_is_known, which"]),
        ("[limits]\nmax_requests = 0", ["2: [limits] max_requests is not positive"]),
        ("[limits]\nmax_requests = 101", ["2: [limits] max_requests is more than the gate lets through (100)"]),
        ("[limits.gate]\nmin_id_bytes = -1", ["2: [limits.gate] min_id_bytes is negative"]),
        ("[limits.gate]\nmin_id_bytes = 99", ["2: [limits.gate] min_id_bytes is more than max_id_bytes"]),
        ("[limits.mac]\nmin_iterations = 20000", ["2: [limits.mac] min_iterations is more than max_iterations"]),
        ('[limits.mac]\ndigests = ["SHA257"]', ["2: [limits.mac] digests has no such digest: SHA257; did you mean"]),
        ("[authority]\nwait_seconds = 0", ["2: [authority] wait_seconds is not positive"]),
        ('[authority]\napproval = "maybe"', ["2: [authority] approval is not one of none, manual: maybe"]),
        ('[authority]\nsigner_key = "k"', ["1: [authority] signer_certificate is needed beside the other"]),
        ('[authority]\nkey = "pkcs11:token=CA?pin-value=1"', ["2: [authority] key has a PIN in it"]),
        ("[authority]\nkey = 1", ["2: [authority] key is not a path or a URI"]),
        (
            '[authority]\nsigner_certificate = "no.pem"\nsigner_key = "k"',
            ["2: [authority] signer_certificate cannot be"],
        ),
        ('[authorisation]\nanchors = ["garbage.pem"]', ["2: [authorisation] anchors has garbage.pem, which holds no"]),
        ("[authorisation]\nanchors = [1]", ["2: [authorisation] anchors is not a path of a file with certificates"]),
        (
            '[authorisation]\nregistration_authorities = ["00:11"]',
            ["2: [authorisation] registration_authorities cannot be read"],
        ),
        ('[authorisation]\nsubjects = ["nonsense"]', ["2: [authorisation] subjects has what is no name: nonsense"]),
        ("[authorisation]\ntls_subjects = [1]", ["2: [authorisation] tls_subjects is not a name"]),
        ('[authority]\ndefault_profile = "x"', ["2: [authority] default_profile is not known: x (there are default)"]),
        ("[profiles.a]\n[profiles.b]", ["[authority] default_profile is missing, and no profile is called default"]),
        ('[profiles.a]\nkey_types = ["ec:P-255"]', ["2: [profiles.a] key_types has no such type: ec:P-255; did you"]),
        ("[profiles.a]\nkey_types = []", ["2: [profiles.a] key_types is empty"]),
        ('[profiles.a]\nkey_usage = ["signing"]', ["2: [profiles.a] key_usage has no such usage: signing"]),
        ("[profiles.a]\nkey_usage = []", ["2: [profiles.a] key_usage is empty"]),
        ('[profiles.a]\nkey_usage = ["cRLSign"]', ["2: [profiles.a] key_usage has what is for CAs only"]),
        (
            '[profiles.a]\nmax_key_usage = ["keyAgreement"]',
            ["1: [profiles.a] key_usage has what max_key_usage has not"],
        ),
        ('[profiles.a]\nextended_key_usage = ["clientauth"]', ["2: [profiles.a] extended_key_usage has no OID and"]),
        ('[profiles.a]\nallowed_extensions = ["2.5.29.19"]', ["2: [profiles.a] allowed_extensions has what the CA"]),
        ("[profiles.a]\nvalidity_days = 1000", ["2: [profiles.a] validity_days is more than max_validity_days"]),
        (
            "[profiles.a]\nmax_validity_days = 0",
            ["1: [profiles.a] validity_days is more", "2: [profiles.a] max_validity"],
        ),
        ("[profiles.a]\nmin_rsa_bits = 512", ["2: [profiles.a] min_rsa_bits does not go with max_rsa_bits"]),
        ("[profiles.a]\nmax_path_length = -1", ["2: [profiles.a] max_path_length is not between"]),
        ('[profiles.a]\nsubject_pattern = "("', ["2: [profiles.a] subject_pattern is not a regular expression"]),
        ('[profiles.a]\ncrl_url = "nonsense"', ["2: [profiles.a] crl_url is not a URL"]),
        ('[labels.a]\nprofiles = ["short"]', ["2: [labels.a] profiles has no such profile: short (there are default)"]),
        ('[labels.a]\nrules = { profile = "x" }', ["2: [labels.a.rules] profile is not known: x"]),
        ('[labels."a/b"]\nprofiles = []', ["1: [labels] a/b is a label of characters other than"]),
        ("[server]\nport = -1\n", ["2: [server] port is not between 0 and 65535"]),
        ("[server]\nworkers = 0\n", ["2: [server] workers is not between 1 and 256"]),
        ('[server]\npaths = ["x"]\n', ["2: [server] paths has a path that does not begin with /"]),
        ('[server]\ntls_key = "x"\n', ["1: [server] tls_certificate is needed beside the other"]),
        ('[server]\ntls_client_ca = "x"\n', ["2: [server] tls_client_ca is for a server with tls_certificate"]),
    ],
)
def test_what_cannot_be_is_told_with_line_and_key(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "garbage.pem").write_text("garbage")
    found = problems(tmp_path, text)
    assert len(found) == len(words), found
    for one, wanted in zip(found, words, strict=True):
        assert wanted in one


def test_rules_are_chosen_by_profile_and_by_name(directory: Path, clock: Clock) -> None:
    text = '[rules]\nprofile = "strict"\non = ["revocation_is_one"]\noff = ["message_time_is_there"]'
    with closing(Server(directory, text, clock).responder) as responder:
        assert responder.profile.name == "strict"
        assert "message_time_is_there" not in responder.profile
        assert "sender_nonce_has_16_bytes" in responder.profile
    with closing(Server(directory, text, clock, profile="lenient").responder) as responder:
        assert responder.profile.name == "lenient"
        assert "sender_nonce_has_16_bytes" not in responder.profile


def test_limits_reach_gate_macs_and_rules(directory: Path, clock: Clock) -> None:
    text = """
[limits]
max_requests = 2
max_open_per_credential = 1
[limits.gate]
max_message_bytes = 5000
[limits.mac]
max_iterations = 100
"""
    server = Server(directory, text, clock)
    with closing(server.responder):
        device = server.device()
        two = [crmf(KEYS[place], f"CN={place}", request_id=place) for place in range(2)]
        assert said(device.ask(B.IR, *two))[1] is F.BAD_ALG  # 500 iterations are more than 100
    server = Server(directory, text.replace("max_iterations = 100", ""), clock)
    with closing(server.responder):
        device = server.device()
        assert said(device.ask(B.IR, *two))[1] is None
        assert said(device.ask(B.IR, *two))[1] is F.SYSTEM_UNAVAIL
        other = server.device("other")
        three = [*two, crmf(KEYS[2], "CN=2", request_id=2)]
        assert said(other.ask(B.IR, *three))[1] is F.BAD_REQUEST
        large = crmf(KEYS[0], extensions=[extension(x509.IssuerAlternativeName([x509.DNSName("x" * 5000)]))])
        assert said(Device(server.responder.handle, device.credential, clock).ask(B.IR, large))[1] is F.BAD_DATA_FORMAT


def test_the_authority_does_as_its_table_says(directory: Path, clock: Clock) -> None:
    text = "[authority]\napproval = 'manual'\nimplicit_confirm = false\nconfirm_wait_seconds = 5\ncrl_days = 2"
    server = Server(directory, text, clock)
    with closing(server.responder) as responder:
        assert isinstance(responder.authority, Approval)
        ca = responder.authority.authority
        assert isinstance(ca, CA)
        clock.now += 2 * 86400
        assert ca.current_crl().good_until - ca.current_crl().made_at == 2 * 86400
    with closing(Server(directory, text, clock, approval=False).responder) as responder:
        assert isinstance(responder.authority, CA)
    server = Server(directory, text.replace("manual", "none"), clock)
    with closing(server.responder) as responder:
        device = server.device()
        certificate = certificate_of(device.ask(B.IR, crmf(KEYS[0]), implicit=True))
        clock.now += 6
        assert said(device.confirm(certificate))[1] is not None  # implicitConfirm was not granted, and time is up


def test_answers_are_signed_by_the_signer_that_the_file_names(directory: Path, clock: Clock) -> None:
    certificate, key = other_ca()
    (directory / "signer.pem").write_bytes(certificate)
    (directory / "signer.key").write_bytes(key.to_pem(b"password"))
    (directory / "signer.key").chmod(0o600)
    (directory / "password").write_text("password\n")
    text = (
        "[authority]\nsigner_certificate = 'signer.pem'\nsigner_key = 'signer.key'\nsigner_password_file = 'password'"
    )
    server = Server(directory, text, clock)
    with closing(server.responder) as responder:
        device = server.device()
        answer = device.ask(B.IR, crmf(KEYS[0]))
        assert facts(certificate).subject in answer.der
        assert responder._signer.certificates[0] == certificate


def test_a_ca_key_elsewhere_is_found(directory: Path, clock: Clock) -> None:
    key = PrivateKey.load(directory / "ca.key")
    (directory / "ca.key").rename(directory / "moved.key")
    server = Server(directory, "[authority]\nkey = 'moved.key'", clock)
    with closing(server.responder):
        assert server.certificate().subject.rfc4514_string() == "CN=device"
    (directory / "locked.key").write_bytes(key.to_pem(b"password"))
    (directory / "password").write_text("password\n")
    text = "[authority]\nkey = 'locked.key'\nkey_password_file = 'password'"
    with closing(Server(directory, text, clock).responder) as responder:
        assert isinstance(responder, Responder)


@pytest.mark.parametrize("how", ["file", "fingerprint"])
def test_registration_authorities_are_listed_by_file_or_fingerprint(directory: Path, clock: Clock, how: str) -> None:
    server = Server(directory, "", clock)
    with closing(server.responder):
        device = server.device()
        own = certificate_of(device.ask(B.IR, crmf(KEYS[1], "CN=ra"), implicit=True))
        victim = device.enroll(KEYS[0])
    (directory / "ra.pem").write_bytes(own)
    value = "ra.pem" if how == "file" else ":".join(f"{each:02X}" for each in facts(own).fingerprint)
    for listed in ("", value):
        lines = f"[authorisation]\nregistration_authorities = ['{listed}']" if listed else ""
        server = Server(directory, lines, clock)
        with closing(server.responder):
            ra = server.device().signing(own, KEYS[1])
            ra.begin()
            assert said(ra.send(B.RR, [revocation(victim)]))[1] is (None if listed else F.NOT_AUTHORIZED)


def test_anchors_let_others_sign(directory: Path, clock: Clock) -> None:
    certificate, key = other_ca()
    (directory / "other.pem").write_bytes(certificate)
    for text, refused in (("", F.SIGNER_NOT_TRUSTED), ("[authorisation]\nanchors = ['other.pem']", None)):
        server = Server(directory, text, clock)
        with closing(server.responder):
            assert said(server.device().signing(certificate, key).ask(B.CR, crmf(KEYS[0])))[1] is refused


def test_issuing_profiles_come_from_the_file(directory: Path, clock: Clock) -> None:
    text = """
[profiles.device]
subjects = ["CN=*,O=Example"]
validity_days = 10
max_validity_days = 20
key_types = ["ec:P-256"]
key_usage = ["digitalSignature", "keyAgreement"]
max_key_usage = ["digitalSignature", "keyAgreement"]
extended_key_usage = ["clientAuth"]
allowed_extended_key_usages = ["clientAuth", "1.3.6.1.5.5.7.3.1"]
allowed_extensions = ["tlsFeature"]
[profiles.ca]
ca = true
max_path_length = 1
[authority]
default_profile = "device"
"""
    server = Server(directory, text, clock)
    with closing(server.responder):
        certificate = server.certificate(subject="CN=a,O=Example")
        assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 10
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
        certificate = server.certificate(subject="CN=A,O=EXAMPLE", extensions=[extension(feature)])
        assert certificate.extensions.get_extension_for_class(x509.TLSFeature).value == feature
        assert server.refused(subject=r"CN=a\,O=Example") is F.BAD_CERT_TEMPLATE
        assert server.refused(subject="CN=a,OU=x,O=Example") is F.BAD_CERT_TEMPLATE
        for wrong in (
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),
            _usage(key_encipherment=True),
            x509.BasicConstraints(ca=True, path_length=None),
        ):
            assert server.refused(subject="CN=a,O=Example", extensions=[extension(wrong)]) is F.BAD_CERT_TEMPLATE
        assert server.refused(subject="CN=a,O=Example", extensions=[extension(x509.InhibitAnyPolicy(0))]) is (
            F.UNACCEPTED_EXTENSION
        )


def test_profiles_for_cas_are_to_be_had_at_their_label_only(directory: Path, clock: Clock) -> None:
    text = """
[profiles.default]
[profiles.ca]
ca = true
[profiles.special]
by_label_only = true
[profiles.short]
"""
    labels = "[labels.any]\n[labels.ca]\nprofiles = ['ca', 'special']\n"
    for lines, label, got in (
        ("", None, {"default", "short"}),
        ("", "any", {"default", "short"}),
        (labels, None, {"default", "short"}),
        (labels, "any", {"default", "short"}),
        (labels, "ca", {"ca", "special"}),
    ):
        server = Server(directory, text + lines, clock)
        with closing(server.responder) as responder:
            for name in ("default", "ca", "special", "short"):

                def handle(der: bytes, responder: Responder = responder, label: str | None = label) -> bytes:
                    return responder.handle(der, Peer(label=label))

                answer = mac_device(handle, clock).ask(
                    B.IR, crmf(KEYS[0]), general_info=[encode_info(oids.IT_CERT_PROFILE, [name])]
                )
                assert said(answer)[1] is (None if name in got else F.BAD_CERT_TEMPLATE), (lines, label, name)


def test_a_profile_for_cas_may_be_the_only_one(directory: Path, clock: Clock) -> None:
    server = Server(directory, "[profiles.ca]\nca = true\n", clock)
    with closing(server.responder):
        certificate = server.certificate()
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def _usage(**on: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**(dict.fromkeys(names, False) | on))


@pytest.mark.parametrize(
    ("asked", "length", "refused"),
    [
        ([], 1, None),
        ([x509.BasicConstraints(ca=True, path_length=0)], 0, None),
        ([x509.BasicConstraints(ca=True, path_length=None)], 1, None),
        ([x509.BasicConstraints(ca=True, path_length=5)], 1, None),
        ([x509.BasicConstraints(ca=False, path_length=None)], None, F.BAD_CERT_TEMPLATE),
        ([_usage(key_cert_sign=True)], 1, None),
        ([_usage(crl_sign=True)], None, F.BAD_CERT_TEMPLATE),
        ([_usage(key_cert_sign=True, key_agreement=True)], None, F.BAD_CERT_TEMPLATE),
    ],
)
def test_a_profile_may_be_for_certificates_of_cas(
    directory: Path, clock: Clock, asked: list[x509.ExtensionType], length: int | None, refused: F | None
) -> None:
    text = "[profiles.ca]\nca = true\nmax_path_length = 1\nmax_key_usage = ['digitalSignature']"
    server = Server(directory, text, clock)
    with closing(server.responder):
        extensions = [extension(each) for each in asked]
        if refused:
            assert server.refused(extensions=extensions) is refused
            return
        found = server.certificate(extensions=extensions).extensions
        constraints = found.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value == x509.BasicConstraints(ca=True, path_length=length)
        assert found.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
