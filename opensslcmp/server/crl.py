"""Certificate revocation lists (RFC 5280, 5): making one, and having the same one in all workers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeGuard

from cryptography import x509

from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    Extension,
    RevokedCertificate,
    TBSCertList,
    attach_signature,
    decode,
    encode,
    time,
    tlv,
    wrap,
)
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import RevocationReason
from opensslcmp.server.files import replace_file
from opensslcmp.server.store import Conflict, Publication, Revocation, Store

__all__ = ["CRLIssuer", "build_crl"]

_CRL_NUMBER = x509.ObjectIdentifier("2.5.29.20")
_CRL_REASON = x509.ObjectIdentifier("2.5.29.21")
_AKI = x509.ObjectIdentifier("2.5.29.35")


def build_crl(
    *,
    issuer: bytes,
    key: PrivateKey,
    algorithm: bytes,
    key_id: bytes | None,
    number: int,
    this_update: datetime,
    next_update: datetime,
    revocations: Iterable[Revocation],
) -> bytes:
    """DER of a full, signed CRL.

    Args:
        issuer: DER of the CA's Name.
        algorithm: DER of the AlgorithmIdentifier to sign with.
        key_id: the CA's subjectKeyIdentifier.
        number: cRLNumber; greater than that of any CRL before.

    Raises:
        OpenSSLError: the key does not sign.

    Source: RFC 5280, 5.1 and 5.2.
    """
    entries = [
        RevokedCertificate(
            user_certificate=each.serial_number,
            revocation_date=time(datetime.fromtimestamp(each.at, UTC)),
            crl_entry_extensions=_reason(each.reason),
        )
        for each in revocations
    ]
    extensions = [Extension(extn_id=_CRL_NUMBER, extn_value=encode(number))]
    if key_id is not None:
        extensions.insert(0, Extension(extn_id=_AKI, extn_value=wrap(0x30, wrap(0x80, key_id))))
    to_be_signed = encode(
        TBSCertList(
            version=1,
            signature=decode(AlgorithmIdentifier, algorithm),
            issuer=tlv(issuer),
            this_update=time(this_update),
            next_update=time(next_update),
            revoked_certificates=entries or None,
            crl_extensions=extensions,
        )
    )
    return attach_signature(to_be_signed, algorithm, key.sign(to_be_signed, algorithm))


def _reason(reason: RevocationReason) -> list[Extension] | None:
    if reason is RevocationReason.UNSPECIFIED:
        return None
    return [Extension(extn_id=_CRL_REASON, extn_value=bytes((0x0A, 1, reason)))]


class CRLIssuer:
    """Keeps the CRL of one key of a CA. May be used by several threads at once.

    A CA that changed its key has one for each of its keys, and all of them tell of all its certificates: the name is the
    same, and so whoever checks a certificate takes the CRL whose key it trusts.

    Args:
        issuer: DER of the CA's Name.
        key_id: its subjectKeyIdentifier.
        generation: of the key, from 0. Numbers of a later key's CRLs are greater than those of any before.
        days: how long a CRL is good for; half-way it is made anew.
        file: where it is written; None: nowhere.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        key: PrivateKey,
        *,
        issuer: bytes,
        key_id: bytes | None,
        generation: int = 0,
        days: float = 7.0,
        file: Path | None = None,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._key = key
        self._algorithm = key.signature_algorithm()
        self._issuer = issuer
        self._key_id = key_id
        self.generation = generation
        self.name = f"crl-{generation}" if generation else "crl"
        self._days = days
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Publication | None = None

    def current(self) -> Publication:
        """The CRL of now, with its number and its times; all workers on a store show the same one.

        Whoever makes a CRL reads its predecessor first, then what is revoked, and gives it the next number in the store
        only if nobody else did: so a greater number never tells less.

        Raises:
            OpenSSLError: the key does not sign.

        Source: RFC 5280, 5.1 and 5.2.3.
        """
        now = self._clock()
        known = self._known
        if self._is_current(known, now):
            return known
        with self._lock:
            while True:
                known = self._store.publication(self.name)
                if self._is_current(known, now):
                    self._known = known
                    return known
                made = self._make(known.number + 1 if known else 1, now)
                with contextlib.suppress(Conflict):  # then another worker was faster
                    self._store.publish(made)
                    self._write(made)

    def _is_current(self, crl: Publication | None, now: float) -> TypeGuard[Publication]:
        if crl is None or crl.revision != self._store.revision():
            return False
        return now < min((crl.made_at + crl.good_until) / 2, crl.made_at + self._days * 43200.0)

    def _make(self, number: int, now: float) -> Publication:
        revision, revocations = self._store.revocations(now)
        this_update = datetime.fromtimestamp(now, UTC).replace(microsecond=0)
        next_update = this_update + timedelta(days=self._days)
        crl = build_crl(
            issuer=self._issuer,
            key=self._key,
            algorithm=self._algorithm,
            key_id=self._key_id,
            number=number + (self.generation << 40),
            this_update=this_update,
            next_update=next_update,
            revocations=revocations,
        )
        return Publication(
            name=self.name,
            number=number,
            revision=revision,
            made_at=this_update.timestamp(),
            good_until=next_update.timestamp(),
            content=crl,
        )

    def _write(self, crl: Publication) -> None:
        while self._file is not None:
            replace_file(self._file, crl.content)
            last = self._store.publication(self.name)
            if last is None or last.number == crl.number:
                return
            crl = last  # another worker's, which may have been written before ours
