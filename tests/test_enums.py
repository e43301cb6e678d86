"""The numbers of ``enums`` against the ASN.1 modules of RFC 9810 and RFC 5280, as an independent package has them."""

import pytest
from pyasn1_alt_modules import rfc5280, rfc9810  # type: ignore[import-untyped]

from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason


def test_status_has_the_numbers_of_the_rfc() -> None:
    assert {item.text: item.value for item in PKIStatus} == dict(rfc9810.PKIStatus.namedValues)


def test_failure_info_has_the_bits_of_the_rfc() -> None:
    assert {item.text: item.value for item in FailureInfo} == dict(rfc9810.PKIFailureInfo.namedValues)


def test_body_types_have_the_tags_of_the_rfc() -> None:
    named = rfc9810.PKIBody.componentType
    tags = {named.getNameByPosition(at): named.getTypeByPosition(at).tagSet[-1].tagId for at in range(len(named))}
    assert {item.text: item.value for item in BodyType} == tags


def test_revocation_reasons_have_the_numbers_of_the_rfc() -> None:
    assert {item.text: item.value for item in RevocationReason} == dict(rfc5280.CRLReason.namedValues)


@pytest.mark.parametrize("kind", [PKIStatus, FailureInfo, BodyType, RevocationReason])
def test_texts_are_unique(kind: type[PKIStatus]) -> None:
    assert len({item.text for item in kind}) == len(kind)
