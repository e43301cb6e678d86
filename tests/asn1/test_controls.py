"""Controls and regInfo of a request: what is made is found again, and what is wrong is told."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.x509 import ObjectIdentifier

from opensslcmp.asn1 import (
    AttributeTypeAndValue,
    CertReqMsg,
    CertRequest,
    CertTemplate,
    controls,
    decode,
    der,
    encode,
    oids,
    tlv,
)
from opensslcmp.asn1.controls import Controls

SPKI = bytes.fromhex("302a300506032b656e032100") + bytes(32)


def message(*given: AttributeTypeAndValue, info: tuple[AttributeTypeAndValue, ...] = ()) -> CertReqMsg:
    """A request with these, as it arrives."""
    request = CertRequest(cert_req_id=0, cert_template=CertTemplate(), controls=list(given) or None)
    return decode(CertReqMsg, encode(CertReqMsg(cert_req=request, reg_info=list(info) or None)))


def test_what_is_made_is_found_again() -> None:
    pairs = {"version": "1", "what?": "50%", "%3f": ""}
    found = Controls.of(
        message(
            controls.reg_token("token"),
            controls.authenticator("mother's maiden name"),
            controls.publication(False),
            controls.archive_generated(True),
            controls.old_cert_id(b"0\x00", 7),
            controls.protocol_encr_key(SPKI),
            info=(controls.utf8_pairs(pairs), controls.cert_req(b"0\x00")),
        )
    )
    assert (found.reg_token, found.authenticator, found.publish) == ("token", "mother's maiden name", False)
    assert found.archive is not None
    assert found.archive.generated is True
    assert found.old_cert_id is not None
    assert found.old_cert_id.serial_number == 7
    assert found.protocol_encr_key == SPKI
    assert found.utf8_pairs == pairs
    assert found.cert_req == b"0\x00"
    assert found.others == ()
    assert "token" not in repr(found).replace("reg_token", "")
    assert "maiden" not in repr(found)


def test_a_key_to_archive_is_enveloped_data() -> None:
    found = Controls.of(message(controls.archive(b"\x30\x03\x02\x01\x02")))
    assert found.archive is not None
    assert found.archive.enveloped == b"\x30\x03\x02\x01\x02"
    assert encode(controls.archive(b"0\x00").value) == b"\xa0\x02\xa0\x00"


def test_a_request_without_any_has_none_and_unknown_ones_are_named() -> None:
    assert Controls.of(message()) == Controls()
    unknown = AttributeTypeAndValue(type=ObjectIdentifier("1.2.3"), value=tlv(b"\x05\x00"))
    assert Controls.of(message(unknown, info=(unknown,))).others == ("1.2.3", "1.2.3")


@pytest.mark.parametrize(
    ("oid", "value"),
    [
        (oids.REG_CTRL_REG_TOKEN, b"\x02\x01\x01"),
        (oids.REG_CTRL_PKI_PUBLICATION_INFO, b"\x30\x03\x02\x01\x05"),
        (oids.REG_CTRL_PKI_ARCHIVE_OPTIONS, b"\x82\x01\x07"),
        (oids.REG_CTRL_PKI_ARCHIVE_OPTIONS, b"\xa0\x02\x30\x00"),
        (oids.REG_CTRL_PROTOCOL_ENCR_KEY, b"\x05\x00"),
        (oids.REG_INFO_UTF8_PAIRS, encode("nothing%")),
    ],
)
def test_what_does_not_decode_is_told(oid: str, value: bytes) -> None:
    wrong: Any = AttributeTypeAndValue(type=ObjectIdentifier(oid), value=tlv(value))
    with pytest.raises(ValueError, match=r"."):
        Controls.of(message(wrong))


def test_one_twice_is_told() -> None:
    with pytest.raises(ValueError, match="twice"):
        Controls.of(message(controls.reg_token("a"), controls.reg_token("b")))


def test_pairs_are_quoted_as_the_standard_says() -> None:
    """RFC 4211, 7.1: "%" and "?" in names and values are written %25 and %3f."""
    assert der(controls.utf8_pairs({"a": "b?c%d"}).value) == encode("a?b%3fc%25d%")
