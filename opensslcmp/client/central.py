"""A private key that the server made: out of its answer, and checked against the certificate that came with it.

The key is in AsymmetricKeyPackage, in SignedData, in EnvelopedData for our credential. Its signer must be a key generation
authority (id-kp-cmKGA) or the CA itself, below one of our anchors, below caPubs that came under a MAC, or below the very key
that signed the new certificate, which the protection of the message vouches for: a key generation authority's certificate is
issued by the CA that delegates to it (RFC 9810, 4.5).

Source: RFC 9483, 4.1.6; RFC 9810, 5.2.2.
"""

from __future__ import annotations

import contextlib

from opensslcmp.asn1 import cms, der, enveloped_data, oids
from opensslcmp.client.context import Context
from opensslcmp.client.exchange import Answer
from opensslcmp.context.certificates import Facts, Trust, facts
from opensslcmp.context.cms import open_enveloped, verify_signed_data
from opensslcmp.context.encryption import same_public_key
from opensslcmp.context.keys import PrivateKey
from opensslcmp.context.protection import ProtectionKind
from opensslcmp.enums import FailureInfo
from opensslcmp.errors import BadMessage, OpenSSLError, ProtectionError

__all__ = ["kind_asked_for", "opened_key", "private_key_in"]

_CENTRAL = "central"
_KEY_CERT_SIGN = 0x04


def kind_asked_for(generate: str | None) -> str | None:
    """The kind of key that the server is to make, ``""`` for one of its choice; None when it is to make none.

    >>> kind_asked_for("central:ec:P-384")
    'ec:P-384'
    """
    if generate is None or generate.partition(":")[0] != _CENTRAL:
        return None
    return generate.partition(":")[2]


def private_key_in(context: Context, answer: Answer, certificate: bytes) -> PrivateKey:
    """The key that the answer brought for this certificate (DER).

    Raises:
        BadMessage: there is none, it does not open, it is not as it should be, or it belongs to another certificate.
        ProtectionError: nobody whom we trust with that signed it.
    """
    pair = answer.content.response[0].certified_key_pair
    enveloped = None if pair is None or pair.private_key is None else enveloped_data(pair.private_key)
    if enveloped is None:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "the answer does not hold the private key as EnvelopedData")
    return opened_key(context, answer, enveloped, certificate)


def opened_key(
    context: Context, answer: Answer, enveloped: bytes, certificate: bytes, at: float | None = None
) -> PrivateKey:
    """The key in EnvelopedData of an answer, that of this certificate (DER).

    Args:
        at: when the certificate was in force, in seconds since 1970; None: now.

    Raises:
        as ``private_key_in``.
    """
    key = _opened(context, answer, enveloped, certificate, at)
    if not same_public_key(key, facts(certificate).spki):
        raise BadMessage(FailureInfo.INCORRECT_DATA, "the private key is not that of the certificate")
    return key


def _opened(context: Context, answer: Answer, enveloped: bytes, certificate: bytes, at: float | None) -> PrivateKey:
    """The key in EnvelopedData, signed by who may make keys for the CA of a certificate (DER)."""
    secret = context.own_key or context.shared_secret
    if secret is None:
        raise ValueError("the private key is sealed for a credential, and the context has none")
    others = (*answer.message.extra_certs, *answer.verified.chain)
    signed = open_enveloped(
        enveloped, secret, content_type=oids.CT_SIGNED_DATA, originators=others, library=context.library
    )
    found = verify_signed_data(
        signed,
        content_type=oids.CT_KP_A_KEY_PACKAGE,
        trust=_anchors(context, answer, certificate, at),
        untrusted=(*others, *context.untrusted),
    )
    about = facts(found.certificate)
    if oids.KP_CM_KGA not in about.extended_key_usage and not _is_ca(about):
        raise ProtectionError("the private key is signed by nobody who may make keys", FailureInfo.NOT_AUTHORIZED)
    try:
        (package,) = cms.packaged_keys(found.content)
        if package.version != 1 or package.public_key is None:
            raise ValueError("not version 2")
        return PrivateKey.load(package.pkcs8, library=context.library)
    except (ValueError, OpenSSLError):
        # Not "from": what is in the traceback may be logged.
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "a private key that does not decode") from None


def _is_ca(about: Facts) -> bool:
    return about.key_usage is not None and bool(about.key_usage >> 8 & _KEY_CERT_SIGN)


def _anchors(context: Context, answer: Answer, certificate: bytes, at: float | None) -> Trust:
    anchors = list(context.trusted)
    if answer.verified.kind is ProtectionKind.MAC:
        anchors += [der(each) for each in getattr(answer.content, "ca_pubs", None) or ()]
    issuer = facts(certificate).issuer
    for each in dict.fromkeys((*answer.message.extra_certs, *answer.verified.chain, *context.untrusted)):
        with contextlib.suppress(ProtectionError, ValueError):
            if facts(each).subject == issuer and _is_ca(facts(each)):
                Trust(each, library=context.library).path(certificate, (), at)
                anchors.append(each)
    if not anchors:
        raise ProtectionError("no anchor for who signed the private key", FailureInfo.SIGNER_NOT_TRUSTED)
    return Trust(list(dict.fromkeys(anchors)), untrusted=context.untrusted, library=context.library)
