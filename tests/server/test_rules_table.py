"""docs/rules.md says what the rules and their tests say."""

from __future__ import annotations

from opensslcmp.server import PROFILES, RULES
from tests.server.rules_table import DOCUMENT, FIXED, PASSES, known_tests, outcome, passes, table


def test_the_table_of_the_rules_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == table(), "run: python -m tests.server.rules_table"


def test_every_rule_is_passed_in_a_test_that_is_there() -> None:
    known = known_tests()
    assert PASSES.keys() <= RULES.keys()
    for rule in RULES.values():
        assert passes(rule) in known, rule.name
    for _, _, _, _, test in FIXED:
        assert test in known


def test_a_rule_that_is_on_is_what_stops_its_message_unless_a_stricter_one_does() -> None:
    """Under the default profile each message meets exactly the rule that it is made for."""
    for rule in RULES.values():
        if "rfc9810" in rule.profiles:
            assert outcome(rule.name, "rfc9810").split()[-1].lower() == rule.failure.name.replace("_", "").lower()
    assert list(PROFILES) == ["rfc9810", "strict", "lenient"]
