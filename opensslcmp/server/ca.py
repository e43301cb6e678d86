"""A certification authority in a directory, with its key in libcrypto.

The directory (mode 0700) holds ``ca.pem`` (the certificate, then its chain), ``ca.key`` (0600), ``ca.db`` (what was
issued, revoked and is going on), ``vault.key`` (0600; opens the shared secrets in ``ca.db``), ``ca.crl`` (DER, written
anew whenever something is revoked) and, when there is something to say, ``opensslcmp.toml`` (``settings.Settings``).
``encryption.pem`` (a certificate to encrypt for the CA with) and ``root-update.pem`` (newWithNew, newWithOld,
oldWithNew) are read when there, and told to who asks.

What does not change from one certificate to the next is computed once; issuing is one encoding and one signature.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from cryptography import x509

from opensslcmp.asn1 import Certificate as CertificateSyntax
from opensslcmp.asn1 import (
    CRLStatus,
    Extension,
    InfoTypeAndValue,
    Validity,
    attach_signature,
    decode,
    decode_info,
    encode,
    encode_info,
    encode_list,
    oids,
    wrap,
)
from opensslcmp.context.certificates import Trust, facts, load_certificates, same_name
from opensslcmp.context.cms import Originator
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import ProtectionKind, Verified, fresh_bytes
from opensslcmp.credentials import KeySource, Signer
from opensslcmp.enums import BodyType, FailureInfo, RevocationReason
from opensslcmp.errors import Rejected
from opensslcmp.server.approval import Approval
from opensslcmp.server.authority import CertificateRequest, InfoRequest, Issued, RevocationRequest
from opensslcmp.server.crl import CRLIssuer
from opensslcmp.server.cross import CrossProfile
from opensslcmp.server.escrow import Escrow
from opensslcmp.server.events import Observer
from opensslcmp.server.files import write_new
from opensslcmp.server.generations import Generation, generations_in, pem_of, self_signed, serial_number, url_of
from opensslcmp.server.key_generation import KeyGenerator
from opensslcmp.server.knowledge import Knowledge, RootUpdate
from opensslcmp.server.policy import AllOf, LabelPolicy, Policy
from opensslcmp.server.profile import IssuingProfile
from opensslcmp.server.responder import Responder
from opensslcmp.server.revocation import alter
from opensslcmp.server.rules import ValidationProfile
from opensslcmp.server.secret_book import Sealer, SecretBook
from opensslcmp.server.settings import (
    KeyGenerationSettings,
    KeyRecoverySettings,
    RuleSettings,
    Settings,
    profiles_everywhere,
)
from opensslcmp.server.store import (
    CertificateRecord,
    Change,
    Publication,
    Store,
    StoredSecret,
    Transaction,
    TransactionState,
    certificate_key,
)
from opensslcmp.server.throttle import Throttle
from opensslcmp.server.turn import Turn
from opensslcmp.server.vault import Vault

__all__ = ["CA", "open_responder"]

logger = logging.getLogger("opensslcmp.server")

_AKI = "2.5.29.35"
_SAN = "2.5.29.17"
_NULL_DN = b"0\x00"


class CA:
    """Issues and revokes certificates: an ``Authority``. May be used by several threads at once.

    Args:
        certificate: DER of its certificate.
        key: its private key.
        store: what it remembers; the Responder has the same.
        sealer: opens the secrets in the store.
        chain: DER of the certificates above it, its issuer first.
        profiles: the first is for who names none; others are chosen by certProfile.
        crl_days: how long a CRL is good for; half-way it is made anew.
        crl_file: where the CRL is written; None: nowhere.
        holders_release: who put a certificate on hold may release it with it; else only a registration authority may.
        knowledge: what else it tells who asks.
        cross: what certificates for other CAs look like, where the Responder takes requests for them.
        settings: where CRL and certificate are to be had; for profiles that do not say it themselves.
        generation: of its key; those before are in ``predecessors``, and how each took its place in ``knowledge``.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        certificate: bytes,
        key: PrivateKey,
        store: Store,
        sealer: Sealer,
        *,
        chain: Iterable[bytes] = (),
        profiles: Iterable[IssuingProfile] = (IssuingProfile(),),
        crl_days: float = 7.0,
        crl_file: Path | None = None,
        holders_release: bool = True,
        knowledge: Knowledge | None = None,
        cross: CrossProfile | None = None,
        settings: Settings = Settings(),  # noqa: B008 -- immutable
        generation: int = 0,
        predecessors: Iterable[Generation] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        about = facts(certificate)
        self.certificate = certificate
        self.chain = tuple(chain)
        self.store = store
        self.secrets = SecretBook(store, sealer, clock=clock)
        self.sealer = sealer
        self.settings = settings
        self.generation = generation
        self.profiles = {profile.name: _located(profile, settings, generation) for profile in profiles}
        self._default = next(iter(self.profiles.values()))
        self._key = key
        self._clock = clock
        self._subject = about.subject
        self._key_id = about.key_id
        self._end = datetime.fromtimestamp(about.not_after, UTC)
        self._algorithm = key.signature_algorithm()
        self._authority_key: list[bytes] = []
        if about.key_id is not None:
            value = wrap(0x30, wrap(0x80, about.key_id))
            self._authority_key = [encode(Extension(extn_id=x509.ObjectIdentifier(_AKI), extn_value=value))]
        self._holders_release = holders_release
        self.knowledge = knowledge or Knowledge()
        self._cross = cross or CrossProfile()
        # Those before, as long as something that they signed may be in force.
        before = [each for each in predecessors if each.not_after > clock()]
        self.anchors = (certificate, *(each.certificate for each in reversed(before)))
        updates = [each for each in self.knowledge.root_updates if facts(each.new_with_old).not_after > clock()]
        # Leads who holds an older root to this one.
        self._links = tuple(each.new_with_old for each in updates) if generation else ()
        self._issuing_chain = (certificate, *self.chain, *self._links)
        self._back = tuple(each.old_with_new for each in updates if each.old_with_new is not None) if generation else ()
        self._told = (*self._issuing_chain, *self._back)
        self._crls = [
            CRLIssuer(
                store,
                each_key,
                issuer=self._subject,
                key_id=facts(each_certificate).key_id,
                generation=number,
                days=crl_days,
                file=crl_file.with_name(url_of(crl_file.name, number)) if crl_file is not None else None,
                clock=clock,
            )
            for number, each_certificate, each_key in (
                (generation, certificate, key),
                *((each.number, each.certificate, each.key) for each in before),
            )
            if each_key is not None
        ]

    # -- its directory -------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        directory: str | os.PathLike[str],
        subject: str | x509.Name = "CN=CMP CA",
        key: str | KeySource = "ec:P-256",
        days: float = 3650.0,
        *,
        profiles: Iterable[IssuingProfile] = (IssuingProfile(),),
        crl_days: float = 7.0,
        crl_url: str | None = None,
        issuer_url: str | None = None,
        key_generation: bool = False,
        key_recovery: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> CA:
        """A new CA with a self-signed certificate, in a directory that is made when it is not there.

        Args:
            subject: as RFC 4514 writes it, or a ``cryptography`` name.
            key: kind of a new key (``PrivateKey.generate``); any other source of a key is used and not written down.
            days: validity of its certificate.
            profiles, crl_days, clock: as for ``open``.
            crl_url, issuer_url: where its CRL and its certificate are going to be had, for the certificates it issues.
            key_generation: makes ``kga.pem`` and ``kga.key`` too, with which it generates keys for who asks for one.
            key_recovery: makes ``escrow.pem`` and ``escrow.key`` too, with which it archives keys, and what ``key_generation``
                makes, with which it gives them back.

        Raises:
            FileExistsError: there is a CA already.
            ValueError: no such kind of key, a subject or a URL that is none.

        Source: RFC 5280, 4.2.1.3 and 4.2.1.9; RFC 9483, 3.2 (digitalSignature, since it signs messages).
        """
        place = Path(directory)
        name = x509.Name.from_rfc4514_string(subject) if isinstance(subject, str) else subject
        if not name.rdns:
            raise ValueError("a CA needs a subject")
        settings = Settings(crl_url=crl_url, issuer_url=issuer_url).text()
        if key_generation:
            settings += "\n[key_generation]\nenabled = true\n"
        if key_recovery:
            settings += "\n[key_recovery]\nenabled = true\n"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for existing in ("ca.pem", "ca.key", "ca.db", "vault.key", "opensslcmp.toml", *_MADE):
            if (place / existing).exists():
                raise FileExistsError(f"{place / existing} is there already")
        if isinstance(key, str) and not key.startswith(("pkcs11:", "file:")):
            private = PrivateKey.generate(key)
            write_new(place / "ca.key", private.to_pem())
        else:
            private = PrivateKey.load(key)
        certificate = self_signed(private, name.public_bytes(), days)
        write_new(place / "ca.pem", pem_of([certificate]), mode=0o644)
        Vault.create(place / "vault.key")
        if settings:
            write_new(place / "opensslcmp.toml", settings.encode(), mode=0o644)
        if key_generation or key_recovery:
            profile = IssuingProfile(validity_days=days, max_validity_days=days, extended_key_usage=("cmKGA",))
            _make_own(place, "kga", "key generation", profile, certificate, private)
        if key_recovery:
            profile = IssuingProfile(validity_days=days, max_validity_days=days, key_usage=("keyAgreement",))
            _make_own(place, "escrow", "key recovery", profile, certificate, private)
        source = None if (place / "ca.key").exists() else private
        result = cls.open(place, key=source, profiles=profiles, crl_days=crl_days, clock=clock)
        result.crl()
        return result

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        *,
        key: KeySource | None = None,
        password: bytes | None = None,
        profiles: Iterable[IssuingProfile] | None = None,
        crl_days: float | None = None,
        settings: Settings | None = None,
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
    ) -> CA:
        """The CA in a directory.

        Args:
            key: source of its key when that is not in ``ca.key``, such as ``pkcs11:...``.
            password: opens the key.
            profiles, crl_days: in place of what the settings say.
            settings: in place of ``opensslcmp.toml``.
            store: in place of ``ca.db``; one that is open already.

        Raises:
            FileNotFoundError: there is no CA.
            OpenSSLError: the key does not load.
            ValueError: the key is not the certificate's; ``opensslcmp.toml`` has what is not known; ``root-update.pem``
                does not fit together.
        """
        from opensslcmp.server.stores import open_store

        place = Path(directory)
        if settings is None:
            settings = Settings.load(place / "opensslcmp.toml")
        said = settings.authority
        if key is None and said.key is not None:
            key = said.key
            password = password or _first_line(said.key_password_file)
        *before, last = generations_in(place, key=key, password=password)
        assert last.key is not None
        return cls(
            last.certificate,
            last.key,
            open_store(settings.store, place) if store is None else store,
            Vault(place / "vault.key"),
            chain=last.chain,
            profiles=settings.issuing if profiles is None else profiles,
            crl_days=said.crl_days if crl_days is None else crl_days,
            crl_file=place / "ca.crl",
            holders_release=said.holders_release,
            knowledge=_knowledge_in(place, [*before, last]),
            settings=settings,
            generation=last.number,
            predecessors=before,
            clock=clock,
        )

    def close(self) -> None:
        """Close its store."""
        self.store.close()

    @property
    def subject(self) -> bytes:
        """DER of its Name."""
        return self._subject

    @property
    def signer(self) -> Signer:
        """The credential that signs its messages: its key with its own certificate.

        After a rollover the certificate is newWithOld while that lasts: the one that is sent first must lead to the root
        that the peer holds, and from newWithOld paths go to the old root and, by oldWithNew, to the new one.
        """
        first, *others = (*self._links, *self._back) if self._links else (self.certificate, *self.chain)
        return Signer(first, self._key, others)

    # -- secrets -------------------------------------------------------------------------------------------------

    def add_secret(
        self,
        reference: str | bytes,
        secret: str | bytes | None = None,
        *,
        single_use: bool = False,
        subject: str | None = None,
        profiles: Iterable[str] = (),
    ) -> bytes:
        """As ``SecretBook.add``."""
        return self.secrets.add(reference, secret, single_use=single_use, subject=subject, profiles=profiles)

    def remove_secret(self, reference: str | bytes) -> bool:
        """As ``SecretBook.remove``."""
        return self.secrets.remove(reference)

    def list_secrets(self) -> list[StoredSecret]:
        """As ``SecretBook.list``."""
        return self.secrets.list()

    # -- Authority -----------------------------------------------------------------------------------------------

    def issue(self, request: CertificateRequest) -> Issued:
        """A certificate by the profile that the request names.

        Raises:
            Rejected: badCertTemplate, unacceptedExtension.
            OpenSSLError: the key does not sign.
        """
        to_be_signed, changes = self._prepare(request)
        signature = self._key.sign(to_be_signed, self._algorithm)
        return Issued(
            certificate=attach_signature(to_be_signed, self._algorithm, signature),
            chain=self._issuing_chain,
            ca_certificates=(self.certificate, *self.chain)[-1:],
            changes=changes,
        )

    def preview(self, request: CertificateRequest) -> None:
        """Return when ``issue`` would give a certificate.

        Raises:
            Rejected: as ``issue``.
        """
        self._prepare(request)

    def _prepare(self, request: CertificateRequest) -> tuple[bytes, tuple[str, ...]]:
        """TBSCertificate, and what differs from what was asked."""
        profile = self._cross if request.kind is BodyType.CCR else self.issuing_profile(request.cert_profile)
        if request.signing_algorithm not in {None, self._algorithm}:
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "the signingAlg asked for is not this CA's")
        if request.issuer not in {None, _NULL_DN, self._subject} and not same_name(
            request.issuer or b"", self._subject
        ):
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "the issuer asked for is not this CA")
        subject, requested = request.subject or _NULL_DN, request.extensions
        if request.kind is BodyType.KUR and request.old_certificate is not None:
            subject, requested = _like_before(profile, request, request.old_certificate)
        profile.check_key(request.public_key)
        profile.check_subject(subject)
        if same_name(subject, self._subject):
            # A peer that looks for the CA by name would take its holder for it.
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "the subject asked for is this CA's own")
        begin, end, changed_validity = profile.validity(request.now, request.not_before, request.not_after, self._end)
        extensions, changed_extensions = profile.extensions(requested, subject, request.public_key)
        # TBSCertificate from its parts, all of them DER already: 14 µs less than through the structure.
        to_be_signed = wrap(
            0x30,
            b"".join(
                (
                    _VERSION_3,
                    wrap(0x02, serial_number().to_bytes(20, "big")),
                    self._algorithm,
                    self._subject,
                    _validity(begin, end),
                    subject,
                    request.public_key,
                    wrap(0xA3, encode_list([*map(_extension_der, extensions), *self._authority_key])),
                )
            ),
        )
        return to_be_signed, changed_validity + changed_extensions

    def confirm(self, issued: Issued, accepted: bool) -> None:
        """Nothing to do: the store keeps what was confirmed."""

    def revoke(self, request: RevocationRequest) -> None:
        """Return when the certificate is one of this CA's, and may be released where that is asked for.

        Raises:
            Rejected: badCertId, notAuthorized.
        """
        if not same_name(request.issuer, self._subject):
            raise Rejected(FailureInfo.BAD_CERT_ID, "not a certificate of this CA")
        if request.reason is RevocationReason.REMOVE_FROM_CRL and not (request.ra or self._holders_release):
            raise Rejected(FailureInfo.NOT_AUTHORIZED, "only a registration authority may release a certificate")

    def info(self, request: InfoRequest) -> list[InfoTypeAndValue]:
        """What is known here: caCerts, rootCaCert, certReqTemplate, CRLs, which algorithms fit, the language.

        Raises:
            Rejected: badDataFormat; badCertTemplate, no such certProfile; badRequest, no common language.
            BadMessage: badDataFormat.

        Source: RFC 9810, 5.3.19; RFC 9483, 4.3.
        """
        if request.oid == oids.IT_CURRENT_CRL:
            return [InfoTypeAndValue.make(oids.IT_CURRENT_CRL, self.crl())]
        if request.oid == oids.IT_CRL_STATUS_LIST:
            try:
                wanted = self._wanted_crls(decode_info(InfoTypeAndValue.make(request.oid, request.value)) or [])
            except ValueError:
                raise Rejected(FailureInfo.BAD_DATA_FORMAT, "crlStatusList does not decode") from None
            return [encode_info(oids.IT_CRLS, [each.current().content for each in wanted] or None)]
        return self.knowledge.answer(request, self._told, self.issuing_profile(request.cert_profile))

    def issuing_profile(self, name: str | None) -> IssuingProfile:
        """The profile that a certProfile names; the first when none is named.

        Raises:
            Rejected: badCertTemplate, there is none.
        """
        if name is None:
            return self._default
        chosen = self.profiles.get(name)
        if chosen is None:
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "no such certProfile")
        return chosen

    def _wanted_crls(self, statuses: list[CRLStatus]) -> list[CRLIssuer]:
        """CRLs of ours that a CRLStatus is about and has none of, or an older one (RFC 9810, 5.3.19.17).

        Raises:
            ValueError: a source that does not decode.
        """
        wanted = []
        for issuer in self._crls:
            current = datetime.fromtimestamp(issuer.current().made_at, UTC)
            places = {profile.crl_url for profile in self.profiles.values() if profile.crl_url}
            if issuer.generation != self.generation:
                places = {url_of(self.settings.crl_url, issuer.generation)} if self.settings.crl_url else set()
            for status in statuses:
                ours = any(same_name(each, self._subject) for each in status.issuers) or any(
                    url in places or not places for url in status.urls
                )
                if ours and (status.newer_than is None or status.newer_than < current):
                    wanted.append(issuer)
                    break
        return wanted

    # -- its operator --------------------------------------------------------------------------------------------

    def find(self, serial_number: int) -> CertificateRecord | None:
        """The record of a certificate of this CA."""
        return self.store.certificate(certificate_key(self._subject, serial_number))

    def change_status(self, serial_number: int, reason: RevocationReason) -> str:
        """Revoke a certificate, put it on hold or release it, by the operator's word, and publish the CRL.

        Returns:
            what was done, in words.

        Raises:
            Rejected: there is no such certificate, or its state does not allow it.
            Conflict: somebody else changed it at the same time.
        """
        record = self.find(serial_number)
        if record is None:
            raise Rejected(FailureInfo.BAD_CERT_ID, "no such certificate")
        revoked = self.store.revocation(record.key)
        held = revoked is not None and revoked.reason is RevocationReason.CERTIFICATE_HOLD
        if reason is RevocationReason.REMOVE_FROM_CRL:
            if not held:
                words = "the certificate is not on hold" if revoked is None else "revoked for good"
                raise Rejected(FailureInfo.BAD_CERT_ID if revoked is None else FailureInfo.CERT_REVOKED, words)
        elif revoked is not None and not (held and reason is not RevocationReason.CERTIFICATE_HOLD):
            raise Rejected(FailureInfo.CERT_REVOKED, "on hold already" if held else "revoked already")
        now = self._clock()
        # A transaction of its own, over as it begins.
        transaction = Transaction(
            transaction_id=fresh_bytes(16),
            identity=b"operator",
            algorithm="",
            body_type=BodyType.RR,
            state=TransactionState.CLOSED,
            nonce=b"",
            nonces=b"",
            deadline=now,
            expires=now,
        )
        change = Change(transaction=transaction, now=now)
        words = alter(Turn(self, self.store, None, now, False, 0.0, 0.0, change), record, reason)
        self.store.commit(change)
        self.publish()
        return words

    # -- revocation ----------------------------------------------------------------------------------------------

    def crl(self) -> bytes:
        """DER of the CRL of now; made anew when something was revoked, or half its time is over.

        Raises:
            OpenSSLError: the key does not sign.
        """
        return self.current_crl().content

    def current_crl(self, generation: int | None = None) -> Publication:
        """The CRL of now, with its number and its times; all workers on a store show the same one.

        Args:
            generation: whose key signs it; None: that of today.

        Raises:
            OpenSSLError: the key does not sign.
            ValueError: no key of this generation is here.
        """
        if generation is None:
            return self._crls[0].current()
        for each in self._crls:
            if each.generation == generation:
                return each.current()
        raise ValueError(f"no CRL is made with a key of generation {generation}")

    @property
    def crl_name(self) -> str:
        """Under which name the store has the CRL of the key of today."""
        return self._crls[0].name

    def crl_paths(self) -> dict[str, int]:
        """The generation whose CRL is to be had at a path: ``/crl``, and the path of ``crl_url``; after a rollover more.

        Certificates of each generation name the CRL that is signed with the key of their own.
        """
        paths: dict[str, int] = {}
        for each in self._crls:
            for path in filter(None, ("/crl", self.settings.crl_path)):
                paths[url_of(path, each.generation)] = each.generation
        for path in filter(None, ("/crl", self.settings.crl_path)):
            paths.setdefault(path, self.generation)
        return paths

    def publish(self) -> None:
        """Write the CRLs, because something was revoked."""
        for each in self._crls:
            each.current()


def open_responder(
    directory: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    store: Store | None = None,
    profile: str | ValidationProfile | None = None,
    signer: Signer | None = None,
    anchors: Iterable[bytes] | None = None,
    issuing: Iterable[IssuingProfile] | None = None,
    key: KeySource | None = None,
    password: bytes | None = None,
    registration_authorities: Iterable[bytes] | None = None,
    cross_certified: Iterable[bytes] | None = None,
    implicit_confirm: bool | None = None,
    confirm_wait_seconds: float | None = None,
    approval: bool | None = None,
    policy: Policy | None = None,
    labels: Mapping[str, LabelPolicy] | None = None,
    observe: Observer | None = None,
    is_open: Callable[[], bool] | None = None,
    throttle: Throttle | None = None,
    key_generator: KeyGenerator | None = None,
    escrow: Escrow | None = None,
    clock: Callable[[], float] = time.time,
) -> Responder:
    """A Responder for the CA in a directory, as its ``opensslcmp.toml`` says. Close it when done.

    What is given here wins over the file; ``LiveResponder`` is one that reads it again.

    ``responder.authority`` is the CA, or with ``approval`` an ``Approval`` in front of it.

    Args:
        settings: in place of ``opensslcmp.toml``.
        store: in place of ``ca.db``; one that is open already.
        profile: which rules are checked: ``rfc9810``, ``strict``, ``lenient``, or one of your own.
        signer: signs answers in place of the CA's own key.
        anchors: DER of certificates beside the CA's own whose holders may sign requests.
        issuing: what certificates look like.
        cross_certified: DER of certificates of other CAs that may ask for cross-certification; none: nobody may.
        key, password: as for ``CA.open``.
        registration_authorities, implicit_confirm, confirm_wait_seconds, labels, observe, is_open, clock: as for
            ``Responder``.
        approval: requests for new certificates wait until an operator approves them (``approval.Approval``).
        policy: who may ask, beside what the file says.
        throttle: in place of one by ``[limits.rate]``.
        key_generator: in place of one by ``[key_generation]``.
        escrow: in place of one by ``[key_recovery]``.

    Raises:
        FileNotFoundError, OpenSSLError, ValueError: as ``CA.open``; no such profile.
    """
    if settings is None:
        settings = Settings.load(Path(directory) / "opensslcmp.toml")
    said, who = settings.authority, settings.authorisation
    chosen = settings.validation
    if profile is not None:
        chosen = settings.limits.of(RuleSettings(profile=profile)) if isinstance(profile, str) else profile
    if anchors is None:
        anchors = [each for file in (*who.anchors, *who.ra_anchors) for each in file.certificates]
    if cross_certified is None:
        cross_certified = [each for file in who.cross_certified for each in file.certificates]
    if registration_authorities is None:
        registration_authorities = [each.sha256 for each in who.registration_authorities]
    issuing = settings.issuing if issuing is None else tuple(issuing)
    everywhere = profiles_everywhere(issuing)
    policies = [each for each in (None if who.is_open else who, policy) if each is not None]
    ca = CA.open(directory, key=key, password=password, profiles=issuing, settings=settings, store=store, clock=clock)
    try:
        if signer is None and said.signer_certificate is not None and said.signer_key is not None:
            opens = _first_line(said.signer_password_file)
            own, *chain = said.signer_certificate.certificates
            signer = Signer(own, PrivateKey.load(said.signer_key, opens), chain)
        if key_generator is None and settings.key_generation.enabled:
            key_generator = _key_generator(Path(directory), settings.key_generation, signer or ca.signer)
        if escrow is None and settings.key_recovery.enabled:
            packager = key_generator or _key_generator(Path(directory), settings.key_generation, signer or ca.signer)
            escrow = _escrow(Path(directory), settings.key_recovery, packager)
        return Responder(
            Approval(ca, ca.store) if (said.approval == "manual" if approval is None else approval) else ca,
            ca.store,
            signer or ca.signer,
            sealer=ca.sealer,
            secrets=ca.secrets.find,
            rotating=ca.secrets.rotating,
            trust=Trust([*ca.anchors, *anchors], untrusted=ca.chain),
            profile=chosen,
            policy=AllOf(policies) if policies else None,
            labels=settings.label_policies(issuing) if labels is None else labels,
            unlabelled=LabelPolicy(profiles=everywhere) if everywhere else None,
            registration_authorities=registration_authorities,
            ra_anchors=[each for file in who.ra_anchors for each in file.certificates],
            cross_certification=Trust(others) if (others := list(cross_certified)) else None,
            limits=settings.limits.gate,
            mac_limits=settings.limits.mac,
            throttle=Throttle(settings.limits.rate) if throttle is None else throttle,
            implicit_confirm=said.implicit_confirm if implicit_confirm is None else implicit_confirm,
            confirm_wait_seconds=said.confirm_wait_seconds if confirm_wait_seconds is None else confirm_wait_seconds,
            wait_seconds=said.wait_seconds,
            retention_seconds=said.retention_seconds,
            observe=observe,
            key_generator=key_generator,
            escrow=escrow,
            is_open=is_open,
            clock=clock,
        )
    except BaseException:
        if store is None:
            ca.close()
        raise


_MADE = ("kga.pem", "kga.key", "escrow.pem", "escrow.key")


def _make_own(place: Path, stem: str, unit: str, profile: IssuingProfile, certificate: bytes, key: PrivateKey) -> None:
    """Write a key, and a certificate for it by the CA: such as one with id-kp-cmKGA (RFC 9810, 4.5)."""
    from opensslcmp.server.memory import MemoryStore

    ca = CA(certificate, key, MemoryStore(), Vault(place / "vault.key"), profiles=(profile,))
    own = PrivateKey.generate("ec:P-256")
    name = x509.Name([*decode(x509.Name, facts(certificate).subject), _attribute(unit)])
    issued = ca.issue(
        CertificateRequest(
            kind=BodyType.CR,
            subject=name.public_bytes(),
            public_key=own.public_key_der,
            requester=Verified(kind=ProtectionKind.NONE),
            now=datetime.now(UTC),
            transaction_id=b"",
        )
    )
    write_new(place / f"{stem}.key", own.to_pem())
    write_new(place / f"{stem}.pem", pem_of([issued.certificate, certificate]), mode=0o644)


def _attribute(text: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, text)


def _key_generator(place: Path, said: KeyGenerationSettings, signer: Signer) -> KeyGenerator:
    """As the table [key_generation] says.

    Raises:
        FileNotFoundError, OpenSSLError, ValueError: its certificate or key does not load.
    """
    certificate, *chain = said.certificate.certificates if said.certificate else load_certificates(place / "kga.pem")
    key = PrivateKey.load(said.key or place / "kga.key", _first_line(said.key_password_file))
    own = load_certificates(signer.certificate)[0]
    return KeyGenerator(
        certificate,
        key,
        Vault(place / "vault.key"),
        chain=chain,
        kinds=said.kinds,
        rsa=said.rsa,
        key_wrap=said.key_wrap,
        originator=Originator(key=signer.key, certificate=own) if isinstance(signer.key, PrivateKey) else None,
    )


def _escrow(place: Path, said: KeyRecoverySettings, packager: KeyGenerator) -> Escrow:
    """As the table [key_recovery] says.

    Raises:
        FileNotFoundError, OpenSSLError, ValueError: its certificate or key does not load.
    """
    certificate = (said.certificate.certificates if said.certificate else load_certificates(place / "escrow.pem"))[0]
    key = PrivateKey.load(said.key or place / "escrow.key", _first_line(said.key_password_file))
    return Escrow(certificate, key, packager, always=said.archive_generated == "all")


def _first_line(path: Path | None) -> bytes | None:
    """A password in a file of its own; None when none is named.

    Raises:
        OSError: it cannot be read.
    """
    return None if path is None else path.read_bytes().partition(b"\n")[0].rstrip(b"\r")


def _knowledge_in(place: Path, generations: Iterable[Generation]) -> Knowledge:
    """From ``encryption.pem`` (or ``escrow.pem``), ``root-update.pem`` and the generations of the key, where they are.

    Raises:
        ValueError: the certificates of the root's update do not fit together.
    """
    encryption, update = place / "encryption.pem", place / "root-update.pem"
    if not encryption.exists():
        encryption = place / "escrow.pem"  # RFC 9810, 5.3.19.1: keys for an escrow are encrypted with it
    updates = [RootUpdate.of(load_certificates(update))] if update.exists() else []
    updates += [each.update for each in generations if each.update is not None]
    return Knowledge(
        encryption_certificate=load_certificates(encryption)[0] if encryption.exists() else None,
        root_updates=tuple(reversed(updates)),
    )


def _located(profile: IssuingProfile, settings: Settings, generation: int) -> IssuingProfile:
    return replace(
        profile,
        crl_url=profile.crl_url or (settings.crl_url and url_of(settings.crl_url, generation)),
        issuer_url=profile.issuer_url or (settings.issuer_url and url_of(settings.issuer_url, generation)),
    )


_VERSION_3 = b"\xa0\x03\x02\x01\x02"


_oid_der = lru_cache(maxsize=64)(encode)


def _extension_der(extension: Extension) -> bytes:
    critical = b"\x01\x01\xff" if extension.critical else b""
    return wrap(0x30, _oid_der(extension.extn_id) + critical + wrap(0x04, extension.extn_value))


@lru_cache(maxsize=64)
def _validity(begin: datetime, end: datetime) -> bytes:
    return encode(Validity.between(begin, end))


def _like_before(
    profile: IssuingProfile, request: CertificateRequest, old: bytes
) -> tuple[bytes, tuple[Extension, ...]]:
    """Subject and extensions of a key update: those of the old certificate, as far as nothing else is asked for."""
    tbs = decode(CertificateSyntax, old).tbs
    before = facts(old).subject
    subject = before if request.subject in {None, _NULL_DN} else request.subject
    assert subject is not None
    requested = {each.oid: each for each in request.extensions}
    previous = {each.oid: each for each in tbs.extensions or ()}
    san, old_san = requested.get(_SAN), previous.get(_SAN)
    if profile.update_keeps_names and not request.ra:
        if not same_name(subject, before):
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "a key update keeps the subject")
        if san is not None and (old_san is None or san.extn_value != old_san.extn_value):
            raise Rejected(FailureInfo.BAD_CERT_TEMPLATE, "a key update keeps the subjectAltName")
    for oid in (_SAN, "2.5.29.15", "2.5.29.37"):
        if oid not in requested and oid in previous:
            requested[oid] = previous[oid]
    return subject, tuple(requested.values())
