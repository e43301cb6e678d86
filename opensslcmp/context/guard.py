"""What unpatched OpenSSLs must not be shown, although it passes the gate.

Each hole of :mod:`opensslcmp.linked` that a well-formed answer can reach is closed here, on the versions that have
it.
"""

from functools import cache

from opensslcmp._native import lib
from opensslcmp.asn1 import EncryptedValue, Message
from opensslcmp.asn1 import common as asn1
from opensslcmp.context import natives
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, ProtectionError
from opensslcmp.linked import features

__all__ = ["refuse_dangerous"]


@cache
def _affected(number: str) -> bool:
    return any(known.id == number and known.affected is not False for known in features().vulnerabilities)


def refuse_dangerous(message: Message, *, expected_sender: bytes | None = None) -> None:
    """Refuse an answer that would harm the OpenSSL that is loaded.

    Args:
        message: an answer that the gate has admitted.
        expected_sender: the Name (DER) that OpenSSL will compare its sender with, if any.

    Raises:
        ProtectionError: it comes from somebody else (CVE-2026-63073).
        BadMessage: it has an encrypted certificate whose encryption is not told (CVE-2026-42767).
    """
    if expected_sender is not None and _affected("CVE-2026-63073") and not _same(message.sender, expected_sender):
        raise ProtectionError("the answer's sender is not the one expected", FailureInfo.BAD_MESSAGE_CHECK)
    if message.body_type in {BodyType.IP, BodyType.CP, BodyType.KUP} and _affected("CVE-2026-42767"):
        for response in message.content().response:
            pair = response.certified_key_pair
            if pair is not None and pair.certificate is None:
                _refuse_incomplete(asn1.der(pair.cert_or_enc_cert.value))


def _same(sender: bytes | None, expected: bytes) -> bool:
    return sender == expected or (
        sender is not None and lib.X509_NAME_cmp(natives.name(sender), natives.name(expected)) == 0
    )


def _refuse_incomplete(der: bytes) -> None:
    if der[:1] == b"\xa0":
        return  # EnvelopedData, another road
    try:
        value = asn1.decode(EncryptedValue, der)
    except ValueError as error:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "an encrypted certificate that does not decode") from error
    if value.symm_alg is None or value.symm_alg.parameters is None or value.enc_symm_key is None:
        raise BadMessage(FailureInfo.BAD_DATA_FORMAT, "an encrypted certificate without its algorithm or key")
