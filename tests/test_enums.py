"""The numbers of the enums are those of OpenSSL, and of the RFCs where OpenSSL has none."""

import pytest

from opensslcmp._native import lib
from opensslcmp.context.client import PopoMethod
from opensslcmp.enums import BodyType, FailureInfo, PKIStatus, RevocationReason


@pytest.mark.parametrize("bit", FailureInfo)
def test_failures_are_openssls(bit: FailureInfo) -> None:
    assert getattr(lib, f"OSSL_CMP_PKIFAILUREINFO_{bit.text}") == bit
    assert getattr(lib, f"OSSL_CMP_CTX_FAILINFO_{bit.text}") == 1 << bit


def test_no_failure_is_missing() -> None:
    assert len(FailureInfo) == lib.OSSL_CMP_PKIFAILUREINFO_MAX + 1


@pytest.mark.parametrize("status", PKIStatus)
def test_statuses_are_openssls(status: PKIStatus) -> None:
    assert getattr(lib, f"OSSL_CMP_PKISTATUS_{status.text}") == status


def test_no_status_is_missing() -> None:
    names = [name.removeprefix("OSSL_CMP_PKISTATUS_") for name in dir(lib) if name.startswith("OSSL_CMP_PKISTATUS_")]
    pseudo = {"request", "trans", "unspecified", "rejected_by_client", "checking_response", "it"}
    assert set(names) - pseudo == {status.text for status in PKIStatus}


@pytest.mark.parametrize(
    "kind", [BodyType.IR, BodyType.CR, BodyType.P10CR, BodyType.KUR, BodyType.GENM, BodyType.ERROR]
)
def test_body_types_are_openssls(kind: BodyType) -> None:
    assert getattr(lib, f"OSSL_CMP_{kind.name}") == kind


def test_popo_methods_are_openssls() -> None:
    names = {"NONE": "NONE", "RA_VERIFIED": "RAVERIFIED", "SIGNATURE": "SIGNATURE", "KEY_ENCIPHERMENT": "KEYENC"}
    assert {name: getattr(lib, f"OSSL_CRMF_POPO_{theirs}") for name, theirs in names.items()} == {
        method.name: method.value for method in PopoMethod
    }


def test_names_are_spelled_as_in_the_rfcs() -> None:
    assert BodyType.CERT_CONF.text == "certConf"
    assert FailureInfo.BAD_POP.text == "badPOP"
    assert PKIStatus.GRANTED_WITH_MODS.text == "grantedWithMods"
    assert [reason.text for reason in RevocationReason] == [
        "unspecified",
        "keyCompromise",
        "cACompromise",
        "affiliationChanged",
        "superseded",
        "cessationOfOperation",
        "certificateHold",
        "removeFromCRL",
        "privilegeWithdrawn",
        "aACompromise",
    ]
