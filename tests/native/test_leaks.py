"""What is owned is freed, on every road: success, exceptions, nonsense, greenlets that never finish."""

import pytest

from opensslcmp._native import lib
from tests import leaks
from tests.native import scenarios


def lose_one() -> None:
    """A leak."""
    lib.ASN1_INTEGER_new()


def test_the_counter_sees_a_leak() -> None:
    found = leaks.leaked("tests.native.test_leaks:lose_one", rounds=7)
    assert list(found.values()) == [7]


@pytest.mark.parametrize("scenario", scenarios.PLAIN + scenarios.WITH_GREENLETS, ids=lambda one: one.__name__)
def test_nothing_of_libcrypto_is_left_over(scenario: object) -> None:
    assert leaks.leaked(f"tests.native.scenarios:{scenario.__name__}", rounds=10) == {}  # type: ignore[attr-defined]
