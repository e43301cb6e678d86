"""The small ways round: bytes to TLV and back, lists, walks that stop, names."""

import dataclasses
import inspect
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from opensslcmp.asn1 import (
    NULL_DN,
    AlgorithmIdentifier,
    Attribute,
    BitString,
    Extension,
    Null,
    PKIHeader,
    algorithm,
    bits,
    count,
    decode,
    der,
    directory_name,
    elements,
    encode,
    encode_list,
    holds_at_most,
    name_der,
    name_of_general,
    read_header,
    structure,
    tlv,
    unwrap,
    wrap,
)

NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")])


@given(st.integers(0, 70_000))
def test_wrap_and_unwrap_agree_with_the_decoder(size: int) -> None:
    data = wrap(0x04, bytes(size))
    assert unwrap(data) == bytes(size)
    assert decode(bytes, data) == bytes(size)
    assert der(tlv(data)) == data


def test_wrap_of_more_than_two_length_bytes() -> None:
    assert len(decode(bytes, wrap(0x04, bytes(1 << 17)))) == 1 << 17


@pytest.mark.parametrize(
    "text",
    ["", "30", "3001", "3080", "308100", "30817f", "3082007f", "3085000000000000", "1f2100", "30820100", "3083"],
)
def test_headers_that_are_not_der_are_refused(text: str) -> None:
    data = bytes.fromhex(text)
    with pytest.raises(ValueError, match=r"."):
        read_header(data, 0, len(data))


def test_unwrap_refuses_what_follows() -> None:
    with pytest.raises(ValueError, match="follow"):
        unwrap(b"\x30\x00\x00")


def test_elements_are_walked_without_looking_deeper() -> None:
    data = encode_list([Null(), b"\x04\x01a", tlv(b"\x30\x02\x04\x05")])
    assert [data[start:end] for start, end in elements(data)] == [b"\x05\x00", b"\x04\x01a", b"\x30\x02\x04\x05"]
    for bad in (data + b"\x00", b"\x31\x00", b"\x30\x01\x05"):
        with pytest.raises(ValueError, match=r"."):
            list(elements(bad))


def test_walk_stops_at_the_limit() -> None:
    data = wrap(0x30, b"\x05\x00" * 5)
    assert holds_at_most(data, 5)
    assert not holds_at_most(data, 4)
    assert holds_at_most(b"\x30\x00", 0)
    with pytest.raises(ValueError, match="SEQUENCE"):
        holds_at_most(b"\x05\x00", 1)
    assert count(data, 100, 0) == 1
    assert count(data, 100, 1) == 6
    assert count(data, 3, 1) == 4
    assert count(wrap(0x30, wrap(0x30, wrap(0x30, data))), 100, 2) == 3


def test_octets_of_a_bit_string() -> None:
    assert bits(BitString(b"ab", 0)) == b"ab"
    with pytest.raises(ValueError, match="octets"):
        bits(BitString(b"\x80", 7))


def test_names_come_as_der_or_as_objects() -> None:
    assert name_der(NAME) == name_der(NAME.public_bytes()) == NAME.public_bytes()
    assert name_of_general(directory_name(NULL_DN)) == NULL_DN
    assert name_of_general(tlv(b"\x82\x01a")) is None


def test_algorithm_parameters_may_be_absent_null_or_anything() -> None:
    for parameters, shown in ((None, None), (Null(), b"\x05\x00"), (b"\x02\x01\x05", b"\x02\x01\x05")):
        made = algorithm("1.2.3", parameters)
        again = decode(AlgorithmIdentifier, encode(made))
        assert made.parameters_der == again.parameters_der == shown
        assert again.oid == "1.2.3"
    assert algorithm(x509.ObjectIdentifier("1.2.3")).oid == "1.2.3"


def test_oids_are_dotted() -> None:
    made = decode(Attribute, encode(Attribute(type=x509.ObjectIdentifier("1.2.3"), values=tlv(b"\x31\x00"))))
    assert made.oid == "1.2.3"
    assert Extension(extn_id=x509.ObjectIdentifier("1.2.4"), extn_value=b"").oid == "1.2.4"


def test_structures_are_frozen_equal_by_value_and_keyword_only() -> None:
    made = algorithm("1.2.3")
    assert made == algorithm("1.2.3")
    assert made != algorithm("1.2.4")
    assert "1.2.3" in repr(made)
    assert not hasattr(made, "__dict__")
    untyped: Any = AlgorithmIdentifier
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.parameters = None  # type: ignore[misc]
    for wrong in ({}, {"algorithm": made.algorithm, "more": 1}):
        with pytest.raises(TypeError):
            untyped(**wrong)
    with pytest.raises(TypeError):
        untyped(made.algorithm)
    assert dataclasses.replace(made, parameters=Null()).parameters_der == b"\x05\x00"


def test_initializer_has_the_fields_and_their_defaults() -> None:
    parameters = inspect.signature(PKIHeader.__init__).parameters
    assert [*parameters][1:] == [field.name for field in dataclasses.fields(PKIHeader)]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for name, parameter in parameters.items() if name != "self")
    assert parameters["recip_nonce"].default is None
    assert parameters["pvno"].default is inspect.Parameter.empty


def test_a_structure_of_ones_own() -> None:
    @structure
    class Pair:
        first: int
        second: bool

    assert decode(Pair, encode(Pair(first=-1, second=True))) == Pair(first=-1, second=True)
