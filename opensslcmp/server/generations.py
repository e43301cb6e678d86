"""The keys of a root CA, one after the other (root CA key update).

The first key and its certificate stand in the CA's directory, ``ca.key`` and ``ca.pem``. Each later one has a directory in it,
``generation-1`` and so on, with ``ca.key``, ``ca.pem`` (newWithNew) and ``root-update.pem`` (newWithNew, newWithOld, oldWithNew).
The one with the greatest number issues. What was issued before stays valid, since nothing of the older ones changes: their
certificates are trust anchors for requests, their keys sign CRLs until they expire. A key that is not to sign anything any
more, not even CRLs, may be taken away.

``roll_over`` writes all of a generation into a directory with another name and renames that when it is on the disk: a crash at
any moment leaves the CA with its old key or with its new one, and never with half of it.

Source: RFC 9810, 4.4 and 5.3.19.15.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    Extension,
    TBSCertificate,
    Validity,
    attach_signature,
    decode,
    encode,
    tlv,
    wrap,
)
from opensslcmp.asn1 import Certificate as CertificateSyntax
from opensslcmp.context.certificates import facts, load_certificates, same_name
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import fresh_bytes
from opensslcmp.credentials import KeySource
from opensslcmp.server.files import check_private, sync_directory, write_new
from opensslcmp.server.knowledge import RootUpdate
from opensslcmp.server.profile import key_identifier, key_usage

__all__ = [
    "Generation",
    "generations_in",
    "kind_of_key",
    "pem_of",
    "roll_over",
    "self_signed",
    "serial_number",
    "url_of",
]

_AKI = "2.5.29.35"
_SKI = "2.5.29.14"


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One key of a CA.

    Attributes:
        number: from 0.
        certificate: DER of the certificate for it.
        chain: DER of those above.
        key: None when it is not there: then it signs no CRLs.
        directory: where its files are.
        update: how it took the place of the one before.
    """

    number: int
    certificate: bytes = field(repr=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    key: PrivateKey | None
    directory: Path | None = None
    update: RootUpdate | None = field(default=None, repr=False)

    @property
    def not_after(self) -> float:
        """When its certificate ends, in seconds since 1970."""
        return facts(self.certificate).not_after


def generations_in(directory: Path, *, key: KeySource | None = None, password: bytes | None = None) -> list[Generation]:
    """The generations in a CA's directory, the one that issues last.

    Args:
        key: source of the key of the last one when that is not in its ``ca.key``.
        password: opens the keys.

    Raises:
        FileNotFoundError: there is no CA, or the last generation lacks something.
        OpenSSLError: a key does not load.
        ValueError: a key is not its certificate's, or certificates of an update do not fit together.
    """
    homes = [directory]
    while (home := directory / f"generation-{len(homes)}").is_dir():
        homes.append(home)
    return [_open(home, number, len(homes) - 1, key, password) for number, home in enumerate(homes)]


def _private_key(file: Path, password: bytes | None) -> PrivateKey:
    check_private(file, file.stat())
    return PrivateKey.load(file, password)


def _open(home: Path, number: int, last: int, source: KeySource | None, password: bytes | None) -> Generation:
    certificate, *chain = load_certificates(home / "ca.pem")
    key: PrivateKey | None = None
    if number == last:
        key = _private_key(home / "ca.key", password) if source is None else PrivateKey.load(source, password)
    else:
        with contextlib.suppress(FileNotFoundError):
            key = _private_key(home / "ca.key", password)
    if key is not None and key.public_key_der != facts(certificate).spki:
        raise ValueError(
            "the key is not the CA certificate's" if not number else f"{home / 'ca.key'} is not the key of its ca.pem"
        )
    update = None
    if number:
        update = RootUpdate.of(load_certificates(home / "root-update.pem"))
        if update.new_with_new != certificate:
            raise ValueError(f"{home / 'root-update.pem'} does not lead to its ca.pem")
    return Generation(
        number=number, certificate=certificate, chain=tuple(chain), key=key, directory=home, update=update
    )


def roll_over(
    directory: str | os.PathLike[str],
    key: str | None = None,
    days: float = 3650.0,
    *,
    old_key: KeySource | None = None,
    password: bytes | None = None,
    now: datetime | None = None,
) -> Generation:
    """Give the CA in a directory a new key, from the next time on that it is opened.

    Args:
        key: kind of the new key (``PrivateKey.generate``); None: that of the present one.
        days: validity of the new root certificate.
        old_key: source of the present key when it is not in ``ca.key``.
        password: opens the present key, and closes the new one.
        now: by default now.

    Raises:
        FileNotFoundError, OpenSSLError, ValueError: as ``generations_in``; it is no root CA; it has expired; no such kind
            of key.
        BlockingIOError: somebody else does it at this moment.

    Source: RFC 9810, 4.4.1.
    """
    with _alone(Path(directory)):
        return _roll_over(Path(directory), key, days, old_key, password, now)


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another rollover is under way", str(place)) from None
        yield
    finally:
        os.close(descriptor)


def _roll_over(
    place: Path, key: str | None, days: float, old_key: KeySource | None, password: bytes | None, now: datetime | None
) -> Generation:
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    old = generations_in(place, key=old_key, password=password)[-1]
    about = facts(old.certificate)
    if old.chain or not same_name(about.subject, about.issuer):
        raise ValueError("this CA is no root: its new key needs a certificate of the CA above it")
    if about.not_after <= moment.timestamp():
        raise ValueError("the CA's certificate has expired: nobody could be led from it to a new one")
    assert old.key is not None
    if key is not None and key.startswith(("pkcs11:", "file:")):
        raise ValueError("a kind of key is needed, such as ec:P-256")
    new_key = PrivateKey.generate(key or kind_of_key(about.spki))
    new_spki = new_key.public_key_der
    new_id, old_id = key_identifier(new_spki), about.key_id
    tbs = decode(CertificateSyntax, old.certificate).tbs
    kept = [each for each in tbs.extensions or () if each.oid not in {_AKI, _SKI}]
    new_extensions = [*kept, _subject_key(new_id)]
    end_of_old = datetime.fromtimestamp(about.not_after, UTC)
    begin_of_old = datetime.fromtimestamp(about.not_before, UTC)
    new_with_new = _certificate(
        new_key,
        about.subject,
        new_spki,
        [*new_extensions, _authority_key(new_id)],
        moment,
        moment + timedelta(days=days),
    )
    by_old = [] if old_id is None else [_authority_key(old_id)]
    new_with_old = _certificate(old.key, about.subject, new_spki, [*new_extensions, *by_old], moment, end_of_old)
    of_old = [] if old_id is None else [_subject_key(old_id)]
    old_with_new = _certificate(
        new_key, about.subject, about.spki, [*kept, *of_old, _authority_key(new_id)], begin_of_old, end_of_old
    )
    RootUpdate.of([new_with_new, new_with_old, old_with_new])
    home = place / f"generation-{old.number + 1}"
    _remove_leftovers(place)
    beside = place / f".generation-{old.number + 1}.{secrets.token_hex(6)}"
    beside.mkdir(mode=0o700)
    try:
        write_new(beside / "ca.key", new_key.to_pem(password))
        write_new(beside / "ca.pem", pem_of([new_with_new]), mode=0o644)
        write_new(beside / "root-update.pem", pem_of([new_with_new, new_with_old, old_with_new]), mode=0o644)
        sync_directory(beside)
        beside.rename(home)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_directory(place)
    return _open(home, old.number + 1, old.number + 1, None, password)


def _remove_leftovers(place: Path) -> None:
    """What a rollover left behind that was interrupted: a key that signed nothing."""
    for each in place.glob(".generation-*"):
        if re.fullmatch(r"\.generation-\d+\.[0-9a-f]{12}", each.name):
            shutil.rmtree(each, ignore_errors=True)


def kind_of_key(spki: bytes) -> str:
    """The kind of a public key (DER), as ``PrivateKey.generate`` takes it.

    Raises:
        ValueError: it has none that is known here.
    """
    key = load_der_public_key(spki)
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa:{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        curves = {"secp256r1": "ec:P-256", "secp384r1": "ec:P-384", "secp521r1": "ec:P-521"}
        return curves.get(key.curve.name, f"ec:{key.curve.name}")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, ed448.Ed448PublicKey):
        return "ed448"
    raise ValueError("the kind of the new key must be said")


def self_signed(key: PrivateKey, name: bytes, days: float) -> bytes:
    """DER of a root certificate for a key.

    Source: RFC 5280, 4.2.1.3 and 4.2.1.9; RFC 9483, 3.2 (digitalSignature, since it signs messages).
    """
    now = datetime.now(UTC).replace(microsecond=0)
    public_key = key.public_key_der
    identifier = key_identifier(public_key)
    extensions = [
        Extension(extn_id=x509.ObjectIdentifier("2.5.29.19"), critical=True, extn_value=bytes.fromhex("30030101ff")),
        Extension(
            extn_id=x509.ObjectIdentifier("2.5.29.15"),
            critical=True,
            extn_value=key_usage("digitalSignature", "keyCertSign", "cRLSign"),
        ),
        _subject_key(identifier),
        _authority_key(identifier),
    ]
    return _certificate(key, name, public_key, extensions, now, now + timedelta(days=days))


def _certificate(
    key: PrivateKey, name: bytes, public_key: bytes, extensions: Sequence[Extension], begin: datetime, end: datetime
) -> bytes:
    algorithm = key.signature_algorithm()
    to_be_signed = encode(
        TBSCertificate(
            version=2,
            serial_number=serial_number(),
            signature=decode(AlgorithmIdentifier, algorithm),
            issuer=tlv(name),
            validity=Validity.between(begin, end),
            subject=tlv(name),
            subject_public_key_info=tlv(public_key),
            extensions=list(extensions),
        )
    )
    return attach_signature(to_be_signed, algorithm, key.sign(to_be_signed, algorithm))


def _subject_key(identifier: bytes) -> Extension:
    return Extension(extn_id=x509.ObjectIdentifier(_SKI), extn_value=wrap(0x04, identifier))


def _authority_key(identifier: bytes) -> Extension:
    return Extension(extn_id=x509.ObjectIdentifier(_AKI), extn_value=wrap(0x30, wrap(0x80, identifier)))


def serial_number() -> int:
    """20 octets, positive, 158 random bits (RFC 5280, 4.1.2.2)."""
    return int.from_bytes(fresh_bytes(20), "big") >> 2 | 1 << 158


def pem_of(certificates: Sequence[bytes]) -> bytes:
    """DER certificates in PEM, one after the other."""
    return b"".join(x509.load_der_x509_certificate(each).public_bytes(Encoding.PEM) for each in certificates)


def url_of(url: str, generation: int) -> str:
    """Where the CRL (or the certificate) of a generation is to be had: ``http://ca.example/ca.crl`` becomes ``.../ca-1.crl``."""
    if not generation:
        return url
    parts = urlsplit(url)
    head, slash, last = parts.path.rpartition("/")
    stem, dot, ending = last.partition(".")
    return urlunsplit(parts._replace(path=f"{head}{slash}{stem}-{generation}{dot}{ending}"))
