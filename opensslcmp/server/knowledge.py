"""What a CA tells who asks (genm), besides certificates and CRLs: its keys' update, which algorithms fit, its language.

Source: RFC 9810, 4.4 and 5.3.19; RFC 9483, 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509

from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    BitString,
    CertReqTemplateContent,
    CertTemplate,
    InfoTypeAndValue,
    bits,
    decode,
    elements,
    encode_info,
    key_spec,
    oids,
    tlv,
    unwrap,
)
from opensslcmp.asn1 import Certificate as CertificateSyntax
from opensslcmp.asn1 import algorithm as identifier
from opensslcmp.asn1.bodies import RootCaKeyUpdateContent
from opensslcmp.context.certificates import facts, same_name
from opensslcmp.context.keys import verify_signature
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import ProtectionError, Rejected
from opensslcmp.server.authority import InfoRequest
from opensslcmp.server.profile import KEY_ALGORITHMS, IssuingProfile

__all__ = ["Knowledge", "RootUpdate"]

_AES256_CBC = "2.16.840.1.101.3.4.1.42"
_DIGITAL_KEYS = ("ec:P-256", "ec:P-384", "ec:P-521", "ed25519", "ed448", "rsa")
_ENCRYPTION_KEYS = ("rsa", "ec:P-256", "ec:P-384", "ec:P-521")


@dataclass(frozen=True, kw_only=True, slots=True)
class RootUpdate:
    """How a root CA went from one key to the next.

    Attributes:
        new_with_new: DER of the new root certificate.
        new_with_old: the new key, signed with the old one: what lets holders of the old root take the new one.
        old_with_new: the old key, signed with the new one, or None.
    """

    new_with_new: bytes = field(repr=False)
    new_with_old: bytes = field(repr=False)
    old_with_new: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, certificates: Sequence[bytes]) -> RootUpdate:
        """From newWithNew, newWithOld and, when there, oldWithNew, in this order.

        Raises:
            ValueError: they do not fit together.
        """
        if not 2 <= len(certificates) <= 3:
            raise ValueError("a root's update has newWithNew, newWithOld and perhaps oldWithNew")
        update = cls(
            new_with_new=certificates[0],
            new_with_old=certificates[1],
            old_with_new=certificates[2] if len(certificates) == 3 else None,
        )
        try:
            update._check()
        except ProtectionError as error:
            raise ValueError(f"a root's update that does not fit together: {error}") from error
        return update

    def _check(self) -> None:
        new, over = facts(self.new_with_new), facts(self.new_with_old)
        if not same_name(new.subject, new.issuer) or not _is_signed_by(self.new_with_new, new.spki):
            raise ValueError("newWithNew is not signed with its own key")
        if over.spki != new.spki or not same_name(over.subject, new.subject):
            raise ValueError("newWithOld is not for the key and the name of newWithNew")
        if _is_signed_by(self.new_with_old, new.spki):
            raise ValueError("newWithOld is signed with the new key")
        # OpenSSL's client finds no path past an identifier that leads elsewhere (RFC 9810, D.3).
        if over.key_id != new.key_id:
            raise ValueError("newWithOld and newWithNew have different subjectKeyIdentifiers")
        if self.old_with_new is None:
            return
        back = facts(self.old_with_new)
        if not same_name(back.issuer, new.subject) or not _is_signed_by(self.old_with_new, new.spki):
            raise ValueError("oldWithNew is not signed with the new key")
        if not _is_signed_by(self.new_with_old, back.spki):
            raise ValueError("newWithOld is not signed with the key of oldWithNew")
        for certificate, issuer in ((self.old_with_new, new), (self.new_with_old, back)):
            named = _authority_key_id(certificate)
            if named is not None and issuer.key_id is not None and named != issuer.key_id:
                raise ValueError("an authorityKeyIdentifier of a root's update is another key's")

    def is_for(self, root: bytes) -> bool:
        """Whether this takes a holder of ``root`` (DER) to the new root.

        Raises:
            ProtectionError: ``root`` is no certificate.
        """
        old, over = facts(root), facts(self.new_with_old)
        return same_name(old.subject, over.issuer) and _is_signed_by(self.new_with_old, old.spki)

    @property
    def content(self) -> RootCaKeyUpdateContent:
        """As rootCaKeyUpdate has it."""
        old = self.old_with_new
        return RootCaKeyUpdateContent(
            new_with_new=tlv(self.new_with_new),
            new_with_old=tlv(self.new_with_old),
            old_with_new=tlv(old) if old is not None else None,
        )


def _authority_key_id(certificate: bytes) -> bytes | None:
    value = decode(CertificateSyntax, certificate).tbs.extension("2.5.29.35")
    if value is None:
        return None
    parts = [value[start:end] for start, end in elements(value)]
    return next((unwrap(part) for part in parts if part[:1] == b"\x80"), None)


def _is_signed_by(certificate: bytes, spki: bytes) -> bool:
    try:
        signed, algorithm, signature = (certificate[start:end] for start, end in elements(certificate))
        verify_signature(spki, algorithm, signed, bits(decode(BitString, signature)), keep=False)
    except (ProtectionError, ValueError):
        return False
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Knowledge:
    """What a CA knows of itself.

    Attributes:
        encryption_certificate: DER of what to encrypt for the CA with (caProtEncCert); None: it has none.
        root_updates: how its root changed, the latest first.
        symmetric_algorithm: dotted OID, of preferredSymmAlg.
        languages: tags of RFC 5646 of the texts that it sends.
    """

    encryption_certificate: bytes | None = field(default=None, repr=False)
    root_updates: tuple[RootUpdate, ...] = ()
    symmetric_algorithm: str = _AES256_CBC
    languages: tuple[str, ...] = ("en",)

    def answer(self, request: InfoRequest, chain: Sequence[bytes], profile: IssuingProfile) -> list[InfoTypeAndValue]:
        """What to answer to one infoType; nothing when it is not known here.

        Args:
            chain: the CA's certificates, its own first.
            profile: that the requester asks about.

        Raises:
            Rejected: badRequest, badDataFormat.
        """
        oid = request.oid
        if oid == oids.IT_CA_CERTS:
            return [encode_info(oid, list(chain))]
        if oid == oids.IT_ROOT_CA_CERT:
            update = self._root_update(request.value)
            return [encode_info(oids.IT_ROOT_CA_KEY_UPDATE, update.content if update else None)]
        if oid == oids.IT_CERT_REQ_TEMPLATE:
            return [encode_info(oid, _template(profile))]
        if oid == oids.IT_CA_PROT_ENC_CERT:
            return [encode_info(oid, self.encryption_certificate)]
        if oid == oids.IT_SIGN_KEY_PAIR_TYPES:
            return [encode_info(oid, _algorithms(profile, _DIGITAL_KEYS) or None)]
        if oid == oids.IT_ENC_KEY_PAIR_TYPES:
            return [encode_info(oid, _algorithms(profile, _ENCRYPTION_KEYS) or None)]
        if oid == oids.IT_KEY_PAIR_PARAM_REQ:
            wanted = decode(x509.ObjectIdentifier, request.value or b"").dotted_string
            fitting = [each for each in _algorithms(profile, tuple(KEY_ALGORITHMS)) if each.oid == wanted]
            return [encode_info(oids.IT_KEY_PAIR_PARAM_REP, fitting[0] if fitting else None)]
        if oid == oids.IT_PREFERRED_SYMM_ALG:
            return [encode_info(oid, identifier(self.symmetric_algorithm))]
        if oid == oids.IT_SUPP_LANG_TAGS:
            return [encode_info(oid, [self._language(request)])]
        return []

    def _root_update(self, root: bytes | None) -> RootUpdate | None:
        """The latest update for who holds this root; of any root when none is named."""
        if root is None:
            return self.root_updates[0] if self.root_updates else None
        try:
            held = facts(root).spki
            if any(held == facts(each.new_with_new).spki for each in self.root_updates[:1]):
                return None
            return next((each for each in self.root_updates if each.is_for(root)), None)
        except (ProtectionError, ValueError):
            raise Rejected(FailureInfo.BAD_DATA_FORMAT, "rootCaCert is no certificate") from None

    def _language(self, request: InfoRequest) -> str:
        """The first tag offered that is ours, or a dialect of ours (RFC 4647, 3.4)."""
        value = request.value or b""
        offered = [decode(str, value[start:end]) for start, end in elements(value)]
        ours = {tag.lower() for tag in self.languages}
        for tag in offered:
            parts = tag.lower().split("-")
            if any("-".join(parts[:count]) in ours for count in range(len(parts), 0, -1)):
                return tag
        raise Rejected(FailureInfo.BAD_REQUEST, "none of these languages is spoken here")


def _algorithms(profile: IssuingProfile, kinds: Sequence[str]) -> list[AlgorithmIdentifier]:
    return [decode(AlgorithmIdentifier, KEY_ALGORITHMS[kind]) for kind in kinds if kind in profile.key_types]


def _template(profile: IssuingProfile) -> CertReqTemplateContent:
    """Nothing prescribed but a proposal for the key: one algId or one rsaKeyLen (RFC 9810, 5.3.19.16)."""
    kind = next((kind for kind in _DIGITAL_KEYS if kind in profile.key_types), None)
    if kind is None:
        spec = None
    elif kind == "rsa":
        spec = [key_spec(max(profile.min_rsa_bits, 2048))]
    else:
        spec = [key_spec(decode(AlgorithmIdentifier, KEY_ALGORITHMS[kind]))]
    return CertReqTemplateContent(cert_template=CertTemplate(), key_spec=spec)
