"""KEM-based MACs at the server.

A requester with a KEM key asks for a ciphertext in a genm without protection, which carries its certificate, and protects the
messages of the transaction that follow with what was encapsulated. Until then nobody is believed: who copies a certificate gets a
ciphertext that it cannot open. A server with a KEM key of its own protects its answers to who sent it a ciphertext.

Both are remembered beside the transaction, under a name that no transactionID has: the secret for a requester sealed, a
ciphertext for us as it came, to be decapsulated again. So any worker goes on with a transaction, and the store gives no
secret away.

Source: RFC 9810, 5.1.1.5, 5.1.3.4, 5.3.19.18 and appendix E.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from opensslcmp.asn1 import (
    InfoTypeAndValue,
    KemCiphertextInfo,
    Message,
    decode,
    elements,
    encode_body,
    encode_info,
    oids,
    unwrap,
    wrap,
)
from opensslcmp.context.certificates import Trust, facts, same_name
from opensslcmp.context.cipher import KEY_BYTES, seal, unseal
from opensslcmp.context.kem import KemProtector, KemSecret, encapsulate, is_kem_key, verify_kem
from opensslcmp.context.protection import ProtectionKind, Verified
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, OpenSSLError, ProtectionError
from opensslcmp.server.secret_book import Sealer
from opensslcmp.server.store import Change, Conflict, Store, Transaction, TransactionState

__all__ = ["Agreement", "Agreements", "asks_for_ciphertext", "ciphertext_in"]

_KEY_ENCIPHERMENT = 0x2000
_ASK_SECONDS = 300.0


class _OwnSealer:
    """Seals under a key that this process has, and no other."""

    def __init__(self) -> None:
        self._key = os.urandom(KEY_BYTES)

    def encrypt(self, reference: bytes, secret: bytes) -> bytes:
        return seal(self._key, secret, reference)

    def decrypt(self, reference: bytes, sealed: bytes) -> bytes:
        return unseal(self._key, sealed, reference)


def asks_for_ciphertext(message: Message) -> bool:
    """It is a genm without protection that asks for a KEM ciphertext, and for nothing else.

    Raises:
        BadMessage: a genm that does not decode.
    """
    if message.protection is not None or message.body_type is not BodyType.GENM:
        return False
    items: list[InfoTypeAndValue] = message.content()
    return len(items) == 1 and items[0].oid == oids.IT_KEM_CIPHERTEXT_INFO and items[0].info_value is None


def ciphertext_in(message: Message) -> KemCiphertextInfo | None:
    """What the sender encapsulated to us, in generalInfo.

    Raises:
        BadMessage: badDataFormat, it does not decode.
    """
    item = message.header.info(oids.IT_KEM_CIPHERTEXT_INFO)
    if item is None or item.value_der is None:
        return None
    try:
        return decode(KemCiphertextInfo, item.value_der)
    except ValueError:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "KemCiphertextInfo that does not decode") from None


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed with a requester.

    Attributes:
        record: where it is remembered.
        secret: what was encapsulated.
    """

    record: Transaction
    secret: KemSecret


def _place(transaction_id: bytes, ours: bool) -> bytes:
    """Longer than the gate lets a transactionID be."""
    return (b"kem:server:" if ours else b"kem:client:") + hashlib.sha512(transaction_id).digest()


class Agreements:
    """What was encapsulated, by transactionID. May be used by several threads at once.

    Args:
        sealer: seals secrets in the store; None: under a key of this process, so that no other goes on with a transaction.
        own: the server's own KEM key, if it has one.
        keep_seconds: how long a transaction may take.
    """

    def __init__(self, sealer: Sealer | None, own: KemProtector | None, keep_seconds: float) -> None:
        self._sealer = sealer or _OwnSealer()
        self.own = own
        self._keep_seconds = keep_seconds

    # -- to a requester --------------------------------------------------------------------------------------------

    @staticmethod
    def place(transaction_id: bytes) -> bytes:
        """Under what a secret for a requester is remembered."""
        return _place(transaction_id, False)

    @staticmethod
    def requester(message: Message, trust: Trust | None, now: float) -> Verified:
        """Who asks for a ciphertext: the certificate may be encapsulated to. Nobody has proved to hold its key.

        Raises:
            ProtectionError: badMessageCheck, signerNotTrusted, certRevoked, notAuthorized, badAlg.
        """
        if trust is None:
            raise ProtectionError("KEM-based MACs are not accepted here", FailureInfo.WRONG_INTEGRITY)
        if not message.extra_certs:
            raise ProtectionError("the KEM certificate is not in extraCerts", FailureInfo.BAD_MESSAGE_CHECK)
        certificate, *others = message.extra_certs
        about = facts(certificate)
        _check_sender(message, certificate)
        if not is_kem_key(about.spki):
            raise ProtectionError("the certificate is of no KEM key", FailureInfo.BAD_ALG)
        if about.key_usage is not None and not about.key_usage & _KEY_ENCIPHERMENT:
            raise ProtectionError("the certificate's key may not be encapsulated to", FailureInfo.NOT_AUTHORIZED)
        chain = trust.path(certificate, tuple(others), now)
        return Verified(
            kind=ProtectionKind.KEM,
            certificate=certificate,
            chain=chain,
            algorithm=oids.name_of(oids.KEM_BASED_MAC),
            identity=b"cert:" + about.fingerprint,
        )

    def encapsulate(
        self, message: Message, requester: Verified, nonce: bytes, now: float
    ) -> tuple[bytes, Callable[[bytes, bytes], Change]]:
        """The body of the genp, and what makes of request hash and response the change that remembers it all.

        Raises:
            ProtectionError: badAlg.
        """
        transaction_id = message.transaction_id or b""
        info, secret = encapsulate(facts(requester.chain[0]).spki)
        place = self.place(transaction_id)
        sealed = self._sealer.encrypt(place, secret)
        record = Transaction(
            transaction_id=place,
            identity=b"kem:" + requester.identity,
            algorithm="",
            body_type=BodyType.GENM,
            state=TransactionState.CLOSED,
            nonce=nonce,
            nonces=b"",
            deadline=0.0,
            expires=now + _ASK_SECONDS,
            request=wrap(0x30, wrap(0x04, sealed) + b"".join(requester.chain)),
        )

        def remembered(request_hash: bytes, response: bytes) -> Change:
            return Change(transaction=record, request_hash=request_hash, response=response, now=now)

        return encode_body(BodyType.GENP, [encode_info(oids.IT_KEM_CIPHERTEXT_INFO, info)]), remembered

    def agreed(self, store: Store, transaction_id: bytes) -> Agreement | None:
        """What was encapsulated to the requester of this transaction."""
        record, _ = store.look(self.place(transaction_id), b"")
        if record is None or record.request is None:
            return None
        sealed, *chain = (record.request[start:end] for start, end in elements(record.request))
        try:
            secret = self._sealer.decrypt(record.transaction_id, unwrap(sealed))
        except OpenSSLError:  # of a process that is gone
            return None
        return Agreement(record, KemSecret(secret, transaction_id, tuple(chain)))

    def verify(
        self, message: Message, agreement: Agreement | None, store: Store, trust: Trust | None, now: float
    ) -> Verified:
        """Who protected a message.

        Raises:
            ProtectionError: as ``context.verify``.
        """
        if agreement is None or trust is None:
            raise ProtectionError("no KEM ciphertext was given out for this", FailureInfo.BAD_MESSAGE_CHECK)
        secret = agreement.secret
        _check_sender(message, secret.chain[0])
        verified = verify_kem(message, secret)
        trust.path(secret.chain[0], secret.chain[1:], now)
        record = agreement.record
        if record.expires < now + self._keep_seconds / 2:
            longer = replace(record, expires=now + self._keep_seconds, version=record.version + 1)
            with contextlib.suppress(Conflict):
                store.commit(Change(transaction=longer, previous=record, now=now))
        return verified

    # -- to us -----------------------------------------------------------------------------------------------------

    def protector(self, message: Message, store: Store) -> KemProtector | None:
        """What protects the answer, when the sender has encapsulated something to us.

        Raises:
            ProtectionError: badMessageCheck, it cannot be decapsulated.
            BadMessage: badDataFormat.
        """
        if self.own is None:
            return None
        transaction_id = message.transaction_id or b""
        info = ciphertext_in(message)
        if info is None:
            record, _ = store.look(_place(transaction_id, True), b"")
            if record is None or record.request is None:
                return None
            info = decode(KemCiphertextInfo, record.request)
        return self.own.of_one_transaction(info, transaction_id)

    def remember(self, message: Message, verified: Verified, store: Store, now: float) -> None:
        """Keep a ciphertext for the messages of its transaction that bring none."""
        item = message.header.info(oids.IT_KEM_CIPHERTEXT_INFO)
        if self.own is None or item is None or item.value_der is None:
            return
        record = Transaction(
            transaction_id=_place(message.transaction_id or b"", True),
            identity=b"kem:" + verified.identity,
            algorithm="",
            body_type=message.body_type,
            state=TransactionState.CLOSED,
            nonce=b"",
            nonces=b"",
            deadline=0.0,
            expires=now + self._keep_seconds,
            request=item.value_der,
        )
        with contextlib.suppress(Conflict):
            store.commit(Change(transaction=record, now=now))


def _check_sender(message: Message, certificate: bytes) -> None:
    about = facts(certificate)
    if message.sender is None or not same_name(message.sender, about.subject):
        raise ProtectionError("sender is not the subject of the KEM certificate", FailureInfo.BAD_MESSAGE_CHECK)
    if message.sender_kid is not None and about.key_id is not None and message.sender_kid != about.key_id:
        raise ProtectionError(
            "senderKID is not the subjectKeyIdentifier of the KEM certificate", FailureInfo.BAD_MESSAGE_CHECK
        )
