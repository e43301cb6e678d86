"""Real messages to work on: ir and ip of OpenSSL 3.0's own client and mock server, MAC-protected."""

from pathlib import Path

__all__ = ["MESSAGES"]

_CORPUS = Path(__file__).resolve().parent.parent / "tests" / "data" / "cmp"

MESSAGES = {
    "ir": (_CORPUS / "mac_ir_implicit-1a-ir.der").read_bytes(),
    "ip": (_CORPUS / "mac_ir_implicit-1b-ip.der").read_bytes(),
}
"""DER by body type."""
