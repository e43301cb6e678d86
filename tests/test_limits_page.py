"""docs/limits.md says what the code says."""

from tests.limits_page import KINDS, PAGE, explained, page, values


def test_the_page_is_of_this_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.limits_page"


def test_every_bound_is_explained() -> None:
    silent = [
        f"{kind.__name__}.{name}" for _, kind, _ in KINDS for name, _ in values(kind) if name not in explained(kind)
    ]
    assert silent == []
