"""Against ``openssl cmp -port``, the mock server of the linked OpenSSL's command."""

from collections.abc import Callable

import pytest
from conftest import Entity, Mock, name
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from opensslcmp import Issued, PKIStatus, ProtectionError, ProtectionKind, Rejected, RevocationReason, Session
from opensslcmp.asn1 import admit, oids
from opensslcmp.enums import BodyType, FailureInfo

Start = Callable[..., Mock]
Make = Callable[..., Session]


def bodies(mock: Mock) -> list[BodyType]:
    return [admit(request).body_type for request in mock.requests]


def csr(entity: Entity) -> x509.CertificateSigningRequest:
    return x509.CertificateSigningRequestBuilder().subject_name(name("device")).sign(entity.key, hashes.SHA256())


@pytest.mark.parametrize("kind", ["ir", "cr"])
@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
@pytest.mark.parametrize("signature", [False, True], ids=["mac", "signature"])
def test_a_certificate_is_enrolled(
    mock: Start, mac_session: Make, signer_session: Make, issued: Entity, kind: str, implicit: bool, signature: bool
) -> None:
    server = mock("-grant_implicitconf", signature=signature) if implicit else mock(signature=signature)
    session = (signer_session if signature else mac_session)(server, implicit_confirm=implicit)
    result = session.enroll("CN=device", issued.key, kind=kind)
    assert result.certificate == issued.certificate
    assert result.protection.kind is (ProtectionKind.SIGNATURE if signature else ProtectionKind.MAC)
    assert result.implicitly_confirmed is implicit
    opening = BodyType.IR if kind == "ir" else BodyType.CR
    assert bodies(server) == ([opening] if implicit else [opening, BodyType.CERT_CONF])
