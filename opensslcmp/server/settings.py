"""What ``opensslcmp.toml`` says, in the CA's directory or wherever ``--config`` names it: the whole server, in tables.

Each table is a dataclass here or beside what it configures; ``tables`` tells how one is added. Certificates that are issued
carry ``crl_url`` and ``issuer_url``, so these are there before the first one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from opensslcmp.asn1 import Limits
from opensslcmp.context.certificates import facts, load_certificates
from opensslcmp.context.protection import MacLimits
from opensslcmp.errors import OpenSSLError, ProtectionError
from opensslcmp.server.announce_settings import AnnounceSettings
from opensslcmp.server.audit import AuditSettings
from opensslcmp.server.key_generation import KINDS, type_of
from opensslcmp.server.metrics import MetricsSettings
from opensslcmp.server.policy import Authorisation, LabelPolicy
from opensslcmp.server.profile import KEY_ALGORITHMS, IssuingProfile
from opensslcmp.server.rules import PROFILES, RFC9810, RULES, ValidationProfile, profile_named
from opensslcmp.server.server_settings import ServerSettings
from opensslcmp.server.stores import StoreSettings
from opensslcmp.server.tables import WrongValue, load_tables, near, refuse, url_problem
from opensslcmp.server.throttle import RateLimits
from opensslcmp.server.transfer_settings import TransferSettings

__all__ = [
    "AuthorisationSettings",
    "AuthoritySettings",
    "CertificateFile",
    "KeyGenerationSettings",
    "KeyPlace",
    "KeyRecoverySettings",
    "LabelSettings",
    "LimitSettings",
    "ListedCertificate",
    "RuleSettings",
    "ServerSettings",
    "Settings",
    "profiles_everywhere",
]


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """Certificates in a file, read when the settings are.

    Attributes:
        path: PEM or DER.
        certificates: DER of each.
    """

    path: Path
    certificates: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def from_toml(cls, value: Any, directory: Path) -> CertificateFile:
        """From a path in a file of settings, relative to its directory.

        Raises:
            ValueError, OSError: there is no certificate.
        """
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError("is not a path of a file with certificates")
        path = directory / value
        try:
            found = tuple(load_certificates(path))
            for each in found:
                facts(each)
        except (OpenSSLError, ProtectionError, ValueError) as error:
            raise ValueError(f"has {value}, which holds no certificate: {error}") from None
        return cls(path, found)


@dataclass(frozen=True, slots=True)
class ListedCertificate:
    """A certificate that is known by its SHA-256, which a file of settings has, or the name of the certificate's file.

    Attributes:
        sha256: of the DER.
    """

    sha256: bytes

    @classmethod
    def from_toml(cls, value: Any, directory: Path) -> ListedCertificate:
        """From 64 hexadecimal digits, with or without colons, or a path to a certificate (the first one of the file).

        Raises:
            ValueError, OSError: it is neither.
        """
        if isinstance(value, str) and re.fullmatch(r"(?:[0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}", value):
            return cls(bytes.fromhex(value.replace(":", "")))
        return cls(facts(CertificateFile.from_toml(value, directory).certificates[0]).fingerprint)


class KeyPlace(str):
    """Where a private key is: the path of a file, or a URI of a provider, such as ``pkcs11:token=CA;object=ca``."""

    __slots__ = ()

    @classmethod
    def from_toml(cls, value: Any, directory: Path) -> KeyPlace:
        """From a file of settings; a path is relative to its directory.

        Raises:
            ValueError: it is neither.
        """
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError("is not a path or a URI of a private key")
        if value.startswith("pkcs11:") and re.search(r"[;?&]pin-value=", value):
            raise ValueError("has a PIN in it; use key_password_file")
        return cls(value if re.match(r"[a-z][a-z0-9.+-]+:", value) else directory / value)


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleSettings:
    """Which rules of the protocol are checked; ``opensslcmp.server.RULES`` has all of them, by name.

    Attributes:
        profile: ``rfc9810`` serves ``openssl cmp`` as it is, ``strict`` is RFC 9483 to the letter, ``lenient`` is for the
            field.
        on: names of rules that are checked beside those of the profile.
        off: names of rules that are not checked.
    """

    profile: str = "rfc9810"
    on: tuple[str, ...] = ()
    off: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = []
        if self.profile not in PROFILES:
            words = f"is not known: {self.profile}{near(self.profile, PROFILES)}"
            wrong.append(WrongValue(words, "profile"))
        for name in ("on", "off"):
            for each in getattr(self, name):
                if each not in RULES:
                    wrong.append(WrongValue(f"has no such rule: {each}{near(each, RULES)}", name))
        for each in sorted(set(self.on) & set(self.off)):
            wrong.append(WrongValue(f"has {each}, which is on too", "off"))
        refuse(wrong)


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitSettings:
    """What one message, one transaction and one credential may ask of the server.

    Attributes:
        max_requests: certificate requests (CertReqMsg) in one message.
        max_infos: infoTypes in one genm.
        max_open_transactions: that wait or are to be confirmed, in all.
        max_open_per_credential: of one credential.
        max_messages_per_transaction: of the peer.
        message_time_seconds: how far messageTime may be from our time, either side.
        gate: form and sizes, checked before anything else.
        mac: cost of MACs.
        rate: how often somebody may ask, and may be wrong.
    """

    max_requests: int = RFC9810.max_requests
    max_infos: int = RFC9810.max_infos
    max_open_transactions: int = RFC9810.max_open_transactions
    max_open_per_credential: int = RFC9810.max_open_per_credential
    max_messages_per_transaction: int = RFC9810.max_messages_per_transaction
    message_time_seconds: float = RFC9810.message_time_seconds
    gate: Limits = field(default_factory=Limits)
    mac: MacLimits = field(default_factory=MacLimits)
    rate: RateLimits = RateLimits()  # noqa: RUF009 -- immutable

    def __post_init__(self) -> None:
        wrong = []
        places: tuple[tuple[LimitSettings | Limits | MacLimits, tuple[str, ...]], ...]
        places = ((self, ()), (self.gate, ("gate",)), (self.mac, ("mac",)))
        for numbers, key in places:
            for each in fields(numbers):
                value = getattr(numbers, each.name)
                if type(value) in {int, float} and not value > 0 and not each.name.startswith("min_"):
                    wrong.append(WrongValue("is not positive", *key, each.name))
                elif type(value) is int and value < 0:
                    wrong.append(WrongValue("is negative", *key, each.name))
        for name, most in (("max_requests", self.gate.max_requests), ("max_infos", self.gate.max_infos)):
            if getattr(self, name) > most:
                wrong.append(WrongValue(f"is more than the gate lets through ({most}); widen [limits.gate] too", name))
        for table, place, least in (
            (self.gate, "gate", ("min_id_bytes", "max_id_bytes")),
            (self.gate, "gate", ("min_mac_iterations", "max_mac_iterations")),
            (self.mac, "mac", ("min_iterations", "max_iterations")),
            (self.mac, "mac", ("min_salt_bytes", "max_salt_bytes")),
        ):
            if getattr(table, least[0]) > getattr(table, least[1]):
                wrong.append(WrongValue(f"is more than {least[1]}", place, least[0]))
        known = MacLimits().digests
        for digest in sorted(self.mac.digests - known):
            wrong.append(WrongValue(f"has no such digest: {digest}{near(digest, known)}", "mac", "digests"))
        refuse(wrong)

    def of(self, rules: RuleSettings) -> ValidationProfile:
        """The validation profile of these rules, with these numbers."""
        return replace(
            profile_named(rules.profile, on=rules.on, off=rules.off),
            max_requests=self.max_requests,
            max_infos=self.max_infos,
            max_open_transactions=self.max_open_transactions,
            max_open_per_credential=self.max_open_per_credential,
            max_messages_per_transaction=self.max_messages_per_transaction,
            message_time_seconds=self.message_time_seconds,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthoritySettings:
    """The CA: its keys, how it decides, how long it waits.

    Attributes:
        key: of the CA, when it is not ``ca.key``: a path, or a URI such as ``pkcs11:token=CA;object=ca``.
        key_password_file: file whose first line opens ``key``.
        signer_certificate: PEM file: answers are signed with this certificate, its chain after it, and not with the CA's.
        signer_key: its private key: a path or a URI.
        signer_password_file: file whose first line opens ``signer_key``.
        default_profile: issuing profile for who names none by certProfile; by default the one that is called ``default``,
            or the only one.
        approval: who decides about new certificates: nobody (``none``), or a person (``manual``).
        crl_days: how long a CRL is good for; half-way it is made anew.
        holders_release: who put a certificate on hold may release it with it; else only a registration authority may.
        implicit_confirm: grant implicit confirmation to who asks for it.
        confirm_wait_seconds: how long a certificate may stay unconfirmed; then it is revoked.
        wait_seconds: how long a requester may poll.
        retention_seconds: how long closed transactions are remembered, to answer retransmissions and refuse replays.
    """

    key: KeyPlace | None = None
    key_password_file: Path | None = None
    signer_certificate: CertificateFile | None = None
    signer_key: KeyPlace | None = None
    signer_password_file: Path | None = None
    default_profile: str | None = None
    approval: Literal["none", "manual"] = "none"
    crl_days: float = 7.0
    holders_release: bool = True
    implicit_confirm: bool = True
    confirm_wait_seconds: float = 600.0
    wait_seconds: float = 7 * 86400.0
    retention_seconds: float = 86400.0

    def __post_init__(self) -> None:
        wrong = []
        if (self.signer_certificate is None) != (self.signer_key is None):
            name = "signer_certificate" if self.signer_certificate is None else "signer_key"
            wrong.append(WrongValue("is needed beside the other", name))
        for name in ("crl_days", "confirm_wait_seconds", "wait_seconds", "retention_seconds"):
            if getattr(self, name) <= 0:
                wrong.append(WrongValue("is not positive", name))
        refuse(wrong)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyGenerationSettings:
    """Keys that are made for who asks for one (central key generation); nobody gets any unless ``enabled``.

    Attributes:
        enabled: make keys.
        certificate: PEM file with the certificate (id-kp-cmKGA) that signs them, its chain after it; by default ``kga.pem``,
            which ``opensslcmp ca init --kga`` makes.
        key: its private key: a path or a URI; by default ``kga.key``.
        key_password_file: file whose first line opens ``key``.
        kinds: of keys that are made, the first for who does not say which: ``ec:P-256``, ``rsa:3072``, ``ed25519``...
        rsa: how an RSA certificate receives them: RSAES-OAEP, PKCS #1 v1.5 or RSA-KEM (RFC 9690).
        key_wrap: how a shared secret receives them: AES key wrap (RFC 9481), or RFC 3211's, the only one that
            OpenSSL opens.
    """

    enabled: bool = False
    certificate: CertificateFile | None = None
    key: KeyPlace | None = None
    key_password_file: Path | None = None
    kinds: tuple[str, ...] = KINDS
    rsa: Literal["oaep", "pkcs1", "kem"] = "oaep"
    key_wrap: Literal["aes", "pwri-kek"] = "aes"

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise WrongValue("is needed beside the other", "certificate" if self.certificate is None else "key")
        if not self.kinds:
            raise WrongValue("is empty", "kinds")
        for kind in self.kinds:
            if type_of(kind) not in KEY_ALGORITHMS:
                raise WrongValue(f"has no such kind of key: {kind}{near(kind, KEY_ALGORITHMS)}", "kinds")


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRecoverySettings:
    """Private keys that are archived for who may lose them, and given back to who asks (krr); none unless ``enabled``.

    Attributes:
        enabled: archive keys and give them back. What is given back is signed as ``[key_generation]`` says.
        certificate: PEM file with the certificate that keys are sealed to; by default ``escrow.pem``, which
            ``opensslcmp ca init --escrow`` makes.
        key: its private key: a path or a URI; by default ``escrow.key``.
        key_password_file: file whose first line opens ``key``.
        archive_generated: of the keys that the server makes, archive those for which that is ``asked``, or ``all``.
    """

    enabled: bool = False
    certificate: CertificateFile | None = None
    key: KeyPlace | None = None
    key_password_file: Path | None = None
    archive_generated: Literal["asked", "all"] = "asked"

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise WrongValue("is needed beside the other", "certificate" if self.certificate is None else "key")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorisationSettings(Authorisation):
    """Who may ask, and who may ask for others. An empty list says nothing.

    Attributes:
        registration_authorities: certificates whose holders may act for others, beside those that the CA issued with
            id-kp-cmcRA: a path of a file, or SHA-256 in hexadecimal.
        anchors: files of certificates beside the CA's own whose holders may sign requests.
        ra_anchors: files of certificates, of which id-kp-cmcRA makes registration authorities of who stands below them;
            they are anchors too.
        cross_certified: files of certificates of other CAs that may ask for cross-certification (ccr); none: nobody may.
    """

    registration_authorities: tuple[ListedCertificate, ...] = ()
    anchors: tuple[CertificateFile, ...] = ()
    ra_anchors: tuple[CertificateFile, ...] = ()
    cross_certified: tuple[CertificateFile, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSettings(Authorisation):
    """What ``/.well-known/cmp/p/NAME`` selects. Who may ask there must pass [authorisation] too.

    Attributes:
        rules: in place of the server's [rules].
        profiles: names of issuing profiles that may be had here, the first for who names none by certProfile; empty: all
            but those that are by_label_only.
        implicit_confirm: as in [authority]; absent: as there.
    """

    rules: RuleSettings | None = None
    profiles: tuple[str, ...] = ()
    implicit_confirm: bool | None = None


def profiles_everywhere(issuing: Iterable[IssuingProfile]) -> tuple[str, ...]:
    """Names of the profiles that are to be had where no label names them, the default one first; empty when all are."""
    first, *others = issuing
    found = [each.name for each in others if not (each.ca or each.by_label_only)]
    return (first.name, *found) if len(found) < len(others) else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of a CA and its server.

    Attributes:
        crl_url: where relying parties get the CRL; goes into cRLDistributionPoints. None: certificates do not say.
        issuer_url: where they get the CA's certificate; goes into authorityInfoAccess.
        server: how it is reached.
        authority: the CA.
        authorisation: who may ask.
        rules: which rules of the protocol are checked.
        limits: what may be asked of the server.
        store: where everything is kept.
        profiles: what certificates look like, by the name that certProfile says.
        labels: what the labels of paths select. Without any, each label means the same as none; with some, others are
            refused with badRequest.
        audit: where the audit trail goes.
        metrics: whether and where there are metrics.
        transfers: ways beside HTTP by which messages come.
        key_generation: keys that are made for who asks for one.
        key_recovery: keys that are archived, and given back.
        announce: who is told of revocations, CRLs and new keys without asking.

    Raises:
        ValueError: a URL that is none, or that a certificate cannot carry; a name that nothing has.

    Source: RFC 5280, 4.2.1.13 and 4.2.2.1; RFC 9811, 3.4.
    """

    crl_url: str | None = None
    issuer_url: str | None = None
    server: ServerSettings = ServerSettings()  # noqa: RUF009 -- immutable
    authority: AuthoritySettings = AuthoritySettings()
    authorisation: AuthorisationSettings = AuthorisationSettings()
    rules: RuleSettings = RuleSettings()
    limits: LimitSettings = LimitSettings()
    store: StoreSettings = StoreSettings()  # noqa: RUF009 -- immutable
    profiles: Mapping[str, IssuingProfile] = field(default_factory=dict)
    labels: Mapping[str, LabelSettings] = field(default_factory=dict)
    audit: AuditSettings = AuditSettings()  # noqa: RUF009 -- immutable
    metrics: MetricsSettings = MetricsSettings()  # noqa: RUF009 -- immutable
    transfers: TransferSettings = TransferSettings()  # noqa: RUF009 -- immutable
    key_generation: KeyGenerationSettings = KeyGenerationSettings()
    key_recovery: KeyRecoverySettings = KeyRecoverySettings()
    announce: AnnounceSettings = AnnounceSettings()  # noqa: RUF009 -- immutable

    def __post_init__(self) -> None:
        refuse(self._wrong())

    def _wrong(self) -> Iterator[WrongValue]:
        for name in ("crl_url", "issuer_url"):
            url = getattr(self, name)
            if url is not None and (words := url_problem(url)):
                yield WrongValue(words, name)
        names = self.profiles.keys() or {"default"}
        default = self.authority.default_profile
        if default is not None and default not in names:
            yield WrongValue(f"is not known: {default}{near(default, names)}", "authority", "default_profile")
        if default is None and len(names) > 1 and "default" not in names:
            words = f"is missing, and no profile is called default{near('', names)}"
            yield WrongValue(words, "authority", "default_profile")
        for name, label in self.labels.items():
            if not re.fullmatch(r"[A-Za-z0-9._~-]+", name):
                yield WrongValue("is a label of characters other than A-Z, a-z, 0-9, . _ ~ and -", "labels", name)
            for each in label.profiles:
                if each not in names:
                    yield WrongValue(f"has no such profile: {each}{near(each, names)}", "labels", name, "profiles")

    @property
    def crl_path(self) -> str | None:
        """The path of ``crl_url``, at which a server of this CA answers too."""
        return urlsplit(self.crl_url).path if self.crl_url else None

    @property
    def validation(self) -> ValidationProfile:
        """Which rules are checked where no label says otherwise."""
        return self.limits.of(self.rules)

    @property
    def issuing(self) -> tuple[IssuingProfile, ...]:
        """What certificates look like; the first is for who names none."""
        profiles = self.profiles or {"default": IssuingProfile()}
        first = self.authority.default_profile or ("default" if "default" in profiles else next(iter(profiles)))
        return (profiles[first], *(profile for name, profile in profiles.items() if name != first))

    def label_policies(self, issuing: Iterable[IssuingProfile] | None = None) -> dict[str, LabelPolicy] | None:
        """What each label selects; None when there are none.

        Args:
            issuing: issuing profiles in place of those of the file.
        """
        everywhere = profiles_everywhere(self.issuing if issuing is None else issuing)
        return {
            name: LabelPolicy(
                validation=self.limits.of(label.rules) if label.rules is not None else None,
                profiles=label.profiles or everywhere,
                policy=None if label.is_open else label,
                implicit_confirm=label.implicit_confirm,
            )
            for name, label in self.labels.items()
        } or None

    @classmethod
    def load(cls, path: Path) -> Settings:
        """The settings in a file; the default ones when it is not there.

        Raises:
            SettingsError: it is no TOML, or has keys or values that are not known; the text names file, line and key of
                each.
        """
        try:
            return load_tables(path, cls)
        except FileNotFoundError:
            return cls()

    def text(self) -> str:
        """The URLs as TOML; empty when there are none."""
        values = {name: getattr(self, name) for name in ("crl_url", "issuer_url")}
        return "".join(f'{name} = "{value}"\n' for name, value in values.items() if value is not None)
