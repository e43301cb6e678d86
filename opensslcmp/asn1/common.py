"""What every ASN.1 module shares, and the small ways round the gaps of ``cryptography.hazmat.asn1``.

The RFCs' modules are written here as Python: one class per SEQUENCE, ``snake_case`` field names, frozen, keyword only.
``@structure`` is ``@sequence`` over ``@dataclass(frozen=True, kw_only=True, slots=True)``; ``sequence`` alone gives
mutable classes without repr or equality. Where a type is open (ANY), a Name, a GeneralName, a certificate or a CMS
structure, the field is a ``TLV``: the bytes as they stand, read when somebody asks. ``der(field)`` gives the bytes,
``tlv(bytes)`` makes one. Two TLVs never compare equal: compare ``der(a) == der(b)``, of whole structures too.

Gaps of version 50 and the way round each:

- An optional ANY (``TLV | None``) is refused. ``AnyValue``, that is ``TLV | Null | None``, is a CHOICE whose first
  alternative takes everything, so a peer's value always arrives as TLV; ``Null()`` is a convenience when building.
- A SEQUENCE OF at top level has no type. ``decode_list`` puts a SEQUENCE header before it and decodes a class with
  that one field.
- A CHOICE at top level: the same header, a class with one CHOICE field.
- A CHOICE inside ``[n]`` inside a CHOICE: a TLV, decoded by a property.
- No recursion (nested messages, AltCertTemplate): a TLV or bytes.
- SIZE is checked only after the whole list was built, so ``count`` walks the raw bytes first.
- Names: ``x509.Name`` would lose string types and with them the identical bytes; a Name stays a TLV.

Source: RFC 5280, 4.1 and 4.2.1.6; X.690, 8.1 and 10.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import lru_cache
from struct import Struct
from typing import Annotated, Any, TypeAlias, TypeVar, cast, dataclass_transform

from cryptography import x509
from cryptography.hazmat.asn1 import TLV, BitString, Default, GeneralizedTime, Null, UTCTime, decode_der, encode_der
from cryptography.hazmat.asn1 import sequence as _sequence

__all__ = [
    "NULL_DN",
    "TLV",
    "AlgorithmIdentifier",
    "AnyValue",
    "Attribute",
    "AttributeTypeAndValue",
    "BitString",
    "Extension",
    "GeneralizedTime",
    "Null",
    "SubjectPublicKeyInfo",
    "Time",
    "UTCTime",
    "algorithm",
    "bits",
    "count",
    "decode",
    "decode_list",
    "der",
    "directory_name",
    "dotted",
    "elements",
    "encode",
    "encode_list",
    "holds_at_most",
    "initializer",
    "is_general_name",
    "name_der",
    "name_in_general",
    "name_of_general",
    "read_header",
    "structure",
    "tlv",
    "unwrap",
    "wrap",
]

T = TypeVar("T")

NULL_DN: bytes = b"0\x00"
"""DER of the Name with no RDN at all, which says "I have no name" (RFC 9810, 5.1.1)."""

AnyValue: TypeAlias = TLV | Null | None
Time: TypeAlias = UTCTime | GeneralizedTime


@dataclass_transform(kw_only_default=True, frozen_default=True)
def structure(cls: type[T]) -> type[T]:
    """An ASN.1 SEQUENCE as a frozen dataclass with keyword-only fields, repr and equality."""
    made: Any = dataclasses.dataclass(frozen=True, kw_only=True, slots=True)(cls)
    made.__init__ = initializer(made)
    return cast("type[T]", _sequence(made))


def initializer(cls: type[Any], *, keyword_only: bool = True) -> Callable[..., None]:
    """``__init__`` for a frozen dataclass with slots, that writes each slot through its descriptor.

    A frozen dataclass's own looks up ``object.__setattr__`` and the name for every field: twice the time, which every
    decoded structure would pay (1.7 against 0.9 us for the 12 fields of a header).
    """
    fields = dataclasses.fields(cls)
    space: dict[str, Any] = {}
    arguments = ["*"] if keyword_only else []
    for field in fields:
        space[f"set_{field.name}"] = getattr(cls, field.name).__set__
        if field.default is dataclasses.MISSING:
            arguments.append(field.name)
        else:
            space[f"default_{field.name}"] = field.default
            arguments.append(f"{field.name}=default_{field.name}")
    lines = [f"    set_{field.name}(self, {field.name})" for field in fields]
    exec(f"def __init__(self, {', '.join(arguments)}):\n" + "\n".join(lines), space)
    made: Callable[..., None] = space["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


# -- bytes ---------------------------------------------------------------------------------------------------------


def tlv(data: bytes) -> TLV:
    """One DER element, not looked into.

    Raises:
        ValueError: not exactly one element, or a length that is not DER.
    """
    return decode_der(TLV, data)


def der(value: TLV | Any) -> bytes:
    """The bytes of a TLV (as they stood in the message) or of any structure."""
    return encode_der(value)


encode = der


def decode(cls: type[T], data: bytes) -> T:
    """``data`` as ``cls``.

    Raises:
        ValueError: it is not one, or not DER, or bytes follow.
    """
    try:
        return decode_der(cls, data)
    except TypeError as error:  # of a Name with an attribute that is a BIT STRING
        raise ValueError(str(error)) from None


class _Starts(dict[int, tuple[bytes, ...]]):
    """Tag and length of the short elements under each tag: ``wrap`` is called some fifty times for an enrollment."""

    def __missing__(self, tag: int) -> tuple[bytes, ...]:
        made = self[tag] = tuple([bytes((tag, size)) for size in range(0x80)])
        return made


_starts = _Starts()
_three_bytes = Struct("BBB").pack
_four_bytes = Struct(">BBH").pack


def wrap(tag: int, content: bytes) -> bytes:
    """``content`` under a one-byte tag, with a DER length."""
    size = len(content)
    if size < 0x80:
        return _starts[tag][size] + content
    if size < 0x100:
        return _three_bytes(tag, 0x81, size) + content
    if size < 0x10000:
        return _four_bytes(tag, 0x82, size) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def read_header(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Tag byte, content start and content end of the element at ``at``.

    Raises:
        ValueError: cut short, indefinite or not minimal length, or a tag number above 30.
    """
    if end - at < 2:
        raise ValueError("an element is cut short")
    tag = data[at]
    size = data[at + 1]
    start = at + 2
    if tag & 0x1F == 0x1F:
        raise ValueError("a tag number above 30")
    if size >= 0x80:
        octets = size & 0x7F
        if not 1 <= octets <= 4:
            raise ValueError("an indefinite or huge length")
        start += octets
        if start > end:
            raise ValueError("a length is cut short")
        size = int.from_bytes(data[at + 2 : start], "big")
        if size < 0x80 or size >> (8 * (octets - 1)) == 0:
            raise ValueError("a length that is not minimal")
    if size > end - start:
        raise ValueError("an element is longer than what holds it")
    return tag, start, start + size


def unwrap(data: bytes) -> bytes:
    """The content of the one element that ``data`` is.

    Raises:
        ValueError: as ``read_header``, or bytes follow.
    """
    _, start, end = read_header(data, 0, len(data))
    if end != len(data):
        raise ValueError("bytes follow the element")
    return data[start:end]


def elements(data: bytes, tag: int = 0x30) -> Iterator[tuple[int, int]]:
    """Start and end of each element inside the one element that ``data`` is. Looks no deeper, allocates nothing.

    Raises:
        ValueError: ``data`` is not one element with this tag, or the walk meets what is not DER.
    """
    actual, at, end = read_header(data, 0, len(data))
    if actual != tag or end != len(data):
        raise ValueError("not one element of the expected type")
    while at < end:
        _, _, stop = read_header(data, at, end)
        yield at, stop
        at = stop


def holds_at_most(data: bytes, limit: int) -> bool:
    """Whether the one SEQUENCE that ``data`` is holds no more than ``limit`` elements. Looks no deeper.

    Raises:
        ValueError: as ``elements``.
    """
    tag, at, end = read_header(data, 0, len(data))
    if tag != 0x30 or end != len(data):
        raise ValueError("not a SEQUENCE")
    while at < end:
        if limit == 0:
            return False
        limit -= 1
        _, _, at = read_header(data, at, end)
    return True


def count(data: bytes, limit: int, depth: int) -> int:
    """How many elements ``data`` holds down to ``depth`` levels, stopping once there are more than ``limit``.

    The cost is bounded by ``limit`` whatever a peer sends: it is called before anything is decoded.

    Raises:
        ValueError: the walk meets what is not DER.
    """
    total = 0
    size = len(data)
    todo = [(0, size, depth)]
    while todo:
        at, end, level = todo.pop()
        while at < end:
            tag, start, stop = read_header(data, at, end)
            total += 1
            if total > limit:
                return total
            if tag & 0x20 and level > 0 and stop > start:
                todo.append((start, stop, level - 1))
            at = stop
    return total


def decode_list(wrapper: type[Any], data: bytes) -> Any:
    """A top-level SEQUENCE OF (or CHOICE) as the one field of ``wrapper``, which must be called ``value``.

    Raises:
        ValueError: as ``decode``.
    """
    return decode_der(wrapper, wrap(0x30, data)).value


def encode_list(items: Any) -> bytes:
    """A SEQUENCE OF from structures, TLVs or ready DER."""
    return wrap(0x30, b"".join([item if isinstance(item, bytes) else encode_der(item) for item in items]))


def bits(value: BitString) -> bytes:
    """The octets of a BIT STRING.

    Raises:
        ValueError: its length is not a whole number of octets.
    """
    if value.padding_bits():
        raise ValueError("a BIT STRING that is no whole number of octets")
    return value.as_bytes()


# -- names ---------------------------------------------------------------------------------------------------------


def directory_name(name: bytes) -> TLV:
    """A GeneralName of type directoryName from the DER of a Name."""
    return decode_der(TLV, wrap(0xA4, name))


_GENERAL_NAMES = frozenset(bytes((tag,)) for tag in (0xA0, 0x81, 0x82, 0xA3, 0xA4, 0xA5, 0x86, 0x87, 0x88))


def is_general_name(value: TLV) -> bool:
    """Whether the tag is one of GeneralName's (RFC 5280, 4.2.1.6). What is inside is not looked at."""
    return value.tag_bytes in _GENERAL_NAMES


def name_of_general(general: TLV) -> bytes | None:
    """The DER of the Name in a GeneralName; None when it is not a directoryName holding one SEQUENCE."""
    return name_in_general(der(general)) if general.tag_bytes == b"\xa4" else None


def name_in_general(general: bytes) -> bytes | None:
    """As ``name_of_general``, of a GeneralName in DER."""
    if general[0] != 0xA4:
        return None
    _, start, stop = read_header(general, 0, len(general))
    if general[start : start + 1] != b"0":
        return None
    try:
        _, _, end = read_header(general, start, stop)
    except ValueError:
        return None
    return general[start:] if end == stop else None


def name_der(name: x509.Name | bytes) -> bytes:
    """The DER of a Name given as DER or as ``cryptography``'s object."""
    return name if isinstance(name, bytes) else name.public_bytes()


# -- structures ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def dotted(identifier: x509.ObjectIdentifier) -> str:
    """An OBJECT IDENTIFIER in text. ``cryptography`` writes it anew each time, which takes longer than to look it up."""
    return identifier.dotted_string


@structure
class AlgorithmIdentifier:
    """AlgorithmIdentifier (RFC 5280, 4.1.1.2)."""

    algorithm: x509.ObjectIdentifier
    parameters: AnyValue = None

    @property
    def oid(self) -> str:
        """The algorithm, dotted."""
        return dotted(self.algorithm)

    @property
    def parameters_der(self) -> bytes | None:
        """The parameters as they stand, or None when absent."""
        return None if self.parameters is None else encode_der(self.parameters)


@structure
class Extension:
    """Extension (RFC 5280, 4.2); ``extn_value`` is the DER inside the OCTET STRING."""

    extn_id: x509.ObjectIdentifier
    critical: Annotated[bool, Default(False)] = False
    extn_value: bytes

    @property
    def oid(self) -> str:
        """The extension, dotted."""
        return dotted(self.extn_id)


@structure
class AttributeTypeAndValue:
    """AttributeTypeAndValue of CRMF (RFC 4211, 5): a control, a regInfo, a keySpec."""

    type: x509.ObjectIdentifier
    value: TLV

    @property
    def oid(self) -> str:
        """The type, dotted."""
        return dotted(self.type)


@structure
class Attribute:
    """Attribute of PKCS #10 and CMS; ``values`` is the SET OF as it stands."""

    type: x509.ObjectIdentifier
    values: TLV

    @property
    def oid(self) -> str:
        """The type, dotted."""
        return dotted(self.type)


@structure
class SubjectPublicKeyInfo:
    """SubjectPublicKeyInfo (RFC 5280, 4.1)."""

    algorithm: AlgorithmIdentifier
    subject_public_key: BitString


def algorithm(oid: str | x509.ObjectIdentifier, parameters: bytes | AnyValue = None) -> AlgorithmIdentifier:
    """An AlgorithmIdentifier from a dotted OID and parameters in DER (None: absent)."""
    identifier = x509.ObjectIdentifier(oid) if isinstance(oid, str) else oid
    value = decode_der(TLV, parameters) if isinstance(parameters, bytes) else parameters
    return AlgorithmIdentifier(algorithm=identifier, parameters=value)
