"""A child process for ``test_enrollment_leaks.py``: the crossing that builds requests gives back what it took."""

import contextlib
import sys
from datetime import UTC, datetime, timedelta

from opensslcmp.context.enrollment import EnrollmentRequest, build_request, run_enrollment
from opensslcmp.context.keys import PrivateKey
from opensslcmp.enums import BodyType
from opensslcmp.errors import CMPError
from tests.client.client_peers import name
from tests.context import leaks_protection as leaks
from tests.context.issuing import der, device

KEY = PrivateKey.generate("ec:P-256")
NAME = name("device").public_bytes()
IR = EnrollmentRequest(body_type=BodyType.IR, key=KEY, subject=NAME, issuer=NAME)
NOW = datetime.now(UTC)
KUR = EnrollmentRequest(
    body_type=BodyType.KUR,
    key=KEY,
    old_certificate=der(device()),
    validity=(NOW, NOW + timedelta(days=3)),
    token="once",
)
BROKEN = EnrollmentRequest(body_type=BodyType.IR, key=KEY, subject=NAME, extensions=b"0\x01")


def _refuse(body_type: BodyType, body: bytes) -> tuple[BodyType, bytes]:
    raise LookupError


def _refused() -> None:
    with contextlib.suppress(LookupError):
        run_enrollment(IR, _refuse)
    with contextlib.suppress(CMPError):
        run_enrollment(IR, lambda body_type, body: (BodyType.IP, b"\x30\x00"))


def _broken() -> None:
    with contextlib.suppress(CMPError):
        build_request(BROKEN)


if __name__ == "__main__":
    leaks.OPERATIONS.clear()
    leaks.OPERATIONS.update(
        {"ir": lambda: build_request(IR), "kur": lambda: build_request(KUR), "refused": _refused, "broken": _broken}
    )
    sys.exit(leaks.main())
