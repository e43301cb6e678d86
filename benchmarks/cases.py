"""The kinds of enrollment that are measured."""

from benchmarks.anchor import Case

__all__ = ["CASES", "EASIEST"]

CASES = [
    Case(),
    Case(confirm="explicit"),
    Case(protection="signature"),
    Case(protection="signature", confirm="explicit"),
    Case(key="rsa"),
    Case(key="rsa3072"),
    Case(key="ed25519"),
]
EASIEST = CASES[0]
"""EC, MAC, implicit confirm: what the pure-Python peers do as well."""
