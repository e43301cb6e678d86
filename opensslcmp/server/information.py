"""genm: what a requester asks about the PKI.

Source: RFC 9810, 5.3.19; RFC 9483, 4.3.
"""

from __future__ import annotations

from opensslcmp.asn1 import InfoTypeAndValue, encode_body, oids
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage, Rejected
from opensslcmp.server.authority import InfoRequest, Pending
from opensslcmp.server.delay import put_off, reference
from opensslcmp.server.rules import Stage
from opensslcmp.server.turn import Answer, Turn, refusal

__all__ = ["inform"]

# What an empty genm asks for (RFC 9810, D.5): ``openssl cmp -cmd genm`` without an infotype sends one.
_EVERYTHING = (
    oids.IT_CA_PROT_ENC_CERT,
    oids.IT_SIGN_KEY_PAIR_TYPES,
    oids.IT_ENC_KEY_PAIR_TYPES,
    oids.IT_PREFERRED_SYMM_ALG,
    oids.IT_CURRENT_CRL,
)


def inform(turn: Turn) -> Answer:
    """Answer a genm: what is not known is left out of a list, and refused alone."""
    check = turn.check
    if turn.polled is None:
        check.profile.check(Stage.OPENING, check)
    items: list[InfoTypeAndValue] = check.message.content()
    check.wishes = len(items)
    check.profile.check(Stage.INFO, check)
    answers: list[InfoTypeAndValue] = []
    try:
        named = turn.issuing_profile(next(iter(check.message.cert_profile), None))
    except Rejected as error:
        raise BadMessage(error.failure or FailureInfo.BAD_REQUEST, "; ".join(error.text)) from error
    for item in items or [InfoTypeAndValue.make(oid) for oid in _EVERYTHING]:
        value = item.value_der
        request = InfoRequest(
            oid=item.oid,
            value=None if value == b"\x05\x00" else value,
            cert_profile=named,
            requester=check.verified,
            peer=check.peer,
            now=turn.moment,
            transaction_id=check.message.transaction_id or b"",
            pending=reference(turn),
        )
        try:
            found = turn.authority.info(request)
        except Exception as error:
            refused = refusal(error)
            raise BadMessage(refused.failure or FailureInfo.BAD_REQUEST, "; ".join(refused.text)) from error
        if isinstance(found, Pending):
            return put_off(turn, found)
        answers += found
    if not items:
        answers = [answer for answer in answers if answer.value_der is not None]
    elif not answers:
        raise BadMessage(FailureInfo.BAD_REQUEST, "an infoType that is not known here")
    return Answer(body_type=BodyType.GENP, body=encode_body(BodyType.GENP, answers))
