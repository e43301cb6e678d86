"""tshark's CMP dissector: what it reads in messages, carried in a capture of HTTP that is made here.

    python -m tests.interop.dissector DIRECTORY

compares it with ``opensslcmp inspect`` for every message below a directory; ``tests.interop.recording`` fills one
from tests (those that send what is broken on purpose show up as differences).
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from opensslcmp.asn1 import admit, describe
from opensslcmp.enums import BodyType
from opensslcmp.errors import BadMessage

__all__ = ["Dissected", "compare", "dissect", "missing"]

Dissected = Mapping[str, list[str]]

_FIELDS = {
    "cmp.pvno": "pvno",
    "cmp.body": "body",
    "cmp.transactionID": "transactionID",
    "cmp.senderNonce": "senderNonce",
    "cmp.recipNonce": "recipNonce",
    "cmp.senderKID": "senderKID",
    "cmp.protection": "protection",
}
_BROKEN = ("_ws.malformed", "ber.error")
_UNKNOWN = "ber.error.oid_not_implemented"  # infoTypes that are newer than the dissector


def missing() -> str | None:
    """What is not installed, or None."""
    return None if shutil.which("tshark") else "needs tshark (Debian: tshark)"


def _segments(number: int, payload: bytes) -> Iterable[bytes]:
    """IPv4 packets of one direction of a connection of its own: SYN, then the payload."""
    # A pair of addresses and ports for each message, so that every one is a connection of its own.
    source, target = struct.pack("!BBH", 10, number >> 16 & 0xFF, number & 0xFFFF), b"\x7f\x00\x00\x01"
    pieces = [(1000, b"", 0x02)]
    position = 0
    while position < len(payload):
        piece = payload[position : position + 32768]
        pieces.append((1001 + position, piece, 0x18))
        position += len(piece)
    for sequence, piece, flags in pieces:
        tcp = struct.pack("!HHIIBBHHH", 40000, 80, sequence, 1, 0x50, flags, 65535, 0, 0) + piece
        yield struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + source + target + tcp


def _capture(messages: Iterable[bytes]) -> bytes:
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 101)]  # 101: packets begin with their IP header
    for number, message in enumerate(messages, 1):
        head = f"POST / HTTP/1.1\r\nContent-Type: application/pkixcmp\r\nContent-Length: {len(message)}\r\n\r\n"
        for packet in _segments(number, head.encode() + message):
            parts.append(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)
    return b"".join(parts)


def _collect(tree: Any, found: dict[str, list[str]]) -> None:
    """Every value of the fields, in the order of the message; json gives repeated keys as pairs."""
    for key, value in tree:
        if key in _FIELDS or key.startswith(_BROKEN):
            found.setdefault(key, []).append(value if isinstance(value, str) else "")
        if isinstance(value, list) and value and isinstance(value[0], tuple):
            _collect(value, found)


def dissect(messages: Iterable[bytes]) -> list[Dissected]:
    """What tshark reads in each message: values of a field in the order they come."""
    messages = list(messages)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "messages.pcap"
        path.write_bytes(_capture(messages))
        command = ["tshark", "-r", str(path), "-T", "json", "-J", "cmp", "-Y", "cmp"]
        done = subprocess.run(command, capture_output=True, timeout=100, check=True)
    packets = json.loads(done.stdout.decode(errors="replace"), object_pairs_hook=lambda pairs: pairs)
    results: list[Dissected] = []
    for packet in packets:
        found: dict[str, list[str]] = {}
        _collect(packet, found)
        results.append({_FIELDS.get(name, name): values for name, values in found.items()})
    if len(results) != len(messages):
        raise AssertionError(f"tshark found {len(results)} CMP messages of {len(messages)}")
    return results


def compare(message: bytes, dissected: Dissected) -> list[str]:
    """Where tshark and ``inspect`` differ, in words."""
    shown = describe(message)
    header: dict[str, Any] = shown["header"]
    if "'problem'" in repr(shown):
        return []  # broken on purpose, and we see it
    broken = [name for name in dissected if name.startswith(_BROKEN) and name != _UNKNOWN]
    if shown["type"] == "certConf" and "'hashAlg'" in repr(shown["body"]):
        broken = []  # a field of pvno 3 that tshark 4.0 does not know
    differences = [f"tshark says {name}" for name in broken]
    expected = {
        "pvno": str(header["pvno"]),
        "body": str(int(BodyType[_name_of(message)])),
        "transactionID": header.get("transactionID"),
        "senderNonce": header.get("senderNonce"),
        "recipNonce": header.get("recipNonce"),
    }
    nested = shown["type"] == "nested"
    if not nested:
        protection = admit(message).protection
        expected["protection"] = protection.hex() if protection else None
    for name, ours in expected.items():
        theirs = dissected.get(name, [None])[0]
        if theirs is not None and name not in ("pvno", "body"):
            theirs = theirs.replace(":", "")
        if ours != theirs and not (ours is None and nested):  # then it is of a message inside
            differences.append(f"{name}: inspect says {ours}, tshark {theirs}")
    return differences


def _name_of(message: bytes) -> str:
    return admit(message).body_type.name


def main(directory: str) -> int:
    """Compare every file below a directory; print differences and a count."""
    paths = []
    for path in sorted(Path(directory).rglob("*.der")):
        try:
            admit(path.read_bytes())
        except BadMessage:
            continue  # a test sent something broken on purpose
        paths.append(path)
    bad = 0
    for start in range(0, len(paths), 2000):
        some = paths[start : start + 2000]
        for path, dissected in zip(some, dissect(path.read_bytes() for path in some), strict=True):
            for difference in compare(path.read_bytes(), dissected):
                bad += 1
                print(f"{path}: {difference}")
    print(f"{len(paths)} messages, {bad} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
