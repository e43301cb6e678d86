"""Messages that are nearly right: bytes flipped, cut and put in, and elements dropped, doubled, exchanged and retagged."""

from __future__ import annotations

import random

from opensslcmp.asn1 import read_header, wrap

__all__ = ["mutated"]

Tree = list[tuple[int, "bytes | Tree"]]

_TAGS = (*(0x1F, 0x3F, 0x9F, 0xBF, 0xFF), *range(7), 0x0C, 0x16, 0x17, 0x18, 0x30, 0x31, 0x80, 0x82, *range(0xA0, 0xA9))


def mutated(chance: random.Random, der: bytes) -> bytes:
    """``der`` with one thing wrong, or a few."""
    message = bytearray(der)
    kind = chance.randrange(7)
    at = chance.randrange(len(message))
    if kind == 0:
        return der[:at]
    if kind == 1:
        for _ in range(chance.choice((1, 1, 1, 2, 8))):
            message[chance.randrange(len(message))] ^= 1 << chance.randrange(8)
    elif kind == 2:
        message[at : at + chance.randrange(1, 20)] = chance.randbytes(chance.randrange(20))
    elif kind == 3:
        message[at] = chance.choice(_TAGS)
    else:
        return _otherwise_built(chance, der)
    return bytes(message)


def _otherwise_built(chance: random.Random, der: bytes) -> bytes:
    """Other elements, under lengths that fit."""
    try:
        tree = _tree(der)
    except ValueError:
        return der
    places: list[tuple[Tree, int]] = []
    _collect(tree, places)
    for _ in range(chance.choice((1, 1, 1, 2))):
        holder, at = chance.choice(places)
        if at >= len(holder):
            continue
        tag, content = holder[at]
        kind = chance.randrange(7)
        if kind == 0:
            del holder[at]
        elif kind == 1:
            holder.insert(at, (tag, content))
        elif kind == 2:
            holder[at] = (chance.choice((*_TAGS, tag ^ (1 << chance.randrange(8)))), content)
        elif kind == 3:
            holder[at] = (tag, b"")
        elif kind == 4:
            other, place = chance.choice(places)
            if place < len(other):
                holder[at] = (other[place][0], _built([other[place]])[2:])
        elif kind == 5 and isinstance(content, bytes) and content:
            octets = bytearray(content)
            octets[chance.randrange(len(octets))] = chance.randrange(256)
            holder[at] = (tag, bytes(octets))
        else:
            holder[at] = (tag, chance.randbytes(chance.randrange(12)))
    return _built(tree)


def _tree(data: bytes) -> Tree:
    found: Tree = []
    at = 0
    while at < len(data):
        tag, start, at = read_header(data, at, len(data))
        content: bytes | Tree = data[start:at]
        if tag & 0x20:
            content = _tree(data[start:at])
        found.append((tag, content))
    return found


def _collect(tree: Tree, places: list[tuple[Tree, int]]) -> None:
    for number, (_, content) in enumerate(tree):
        places.append((tree, number))
        if isinstance(content, list):
            _collect(content, places)


def _built(tree: Tree) -> bytes:
    return b"".join([wrap(tag, content if isinstance(content, bytes) else _built(content)) for tag, content in tree])
