"""The gate: what passes, what is refused with which failInfo, and that nothing else ever leaves it."""

import contextlib
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from opensslcmp.asn1 import (
    NULL_DN,
    InfoTypeAndValue,
    KemBMParameter,
    Limits,
    Null,
    PBKDF2Params,
    PBMAC1Params,
    PBMParameter,
    PKIHeader,
    admit,
    algorithm,
    assemble,
    encode,
    encode_body,
    make_header,
    oids,
    protected_part,
    tlv,
    unwrap,
    wrap,
)
from opensslcmp.enums import BodyType, FailureInfo
from opensslcmp.errors import BadMessage

MESSAGES = {path.stem: path.read_bytes() for path in (Path(__file__).parent.parent / "data" / "cmp").glob("*.der")}
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")]).public_bytes()
SHA256 = algorithm("2.16.840.1.101.3.4.2.1")
HMAC = algorithm("1.2.840.113549.2.9")
GENM = encode_body(BodyType.GENM, [])


def pbm(salt: bytes = bytes(16), iterations: int = 500) -> bytes:
    parameters = PBMParameter(salt=salt, owf=SHA256, iteration_count=iterations, mac=HMAC)
    return encode(algorithm(oids.PASSWORD_BASED_MAC, encode(parameters)))


def header(**changes: Any) -> PKIHeader:
    values: dict[str, Any] = {
        "sender": NAME,
        "recipient": NULL_DN,
        "transaction_id": bytes(16),
        "sender_nonce": bytes(range(16)),
        "protection_alg": pbm(),
    }
    return make_header(**values | changes)


def message(
    body: bytes = GENM,
    body_type: BodyType = BodyType.GENM,
    protection: bytes | None = bytes(20),
    extra: tuple[bytes, ...] = (),
    **changes: Any,
) -> bytes:
    return assemble(protected_part(header(**changes), body_type, body), protection, extra)


def refusal(der: bytes, **options: Any) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        admit(der, **options).content()
    return caught.value


# -- what passes ---------------------------------------------------------------------------------------------------


def test_parts_are_the_bytes_that_were_sent() -> None:
    certificate = wrap(0x30, b"\x02\x01\x05")
    der = message(extra=(certificate, certificate))
    admitted = admit(der)
    assert admitted.der == der
    assert admitted.header_der in der
    assert admitted.protected_part[2:] in der or admitted.protected_part[3:] in der
    assert admitted.protection == bytes(20)
    assert admitted.extra_certs == (certificate, certificate)
    assert admitted.body_der == GENM
    assert admitted.content() == []


@pytest.mark.parametrize("name", MESSAGES)
def test_what_the_gate_takes_from_the_bytes_is_what_the_decoder_says(name: str) -> None:
    admitted = admit(MESSAGES[name])
    assert admitted.sender_der == encode(admitted.header.sender)
    assert admitted.sender == admitted.header.sender_name
    if isinstance(admitted.mac, PBMParameter):
        assert admitted.header.protection_alg is not None
        assert encode(admitted.mac) == admitted.header.protection_alg.parameters_der


def test_sender_of_a_long_header_is_found() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "d" * 60)] * 5).public_bytes()
    assert admit(message(sender=name)).sender == name
    assert admit(message(sender=name, free_text=["x" * 1000] * 4)).sender == name


@pytest.mark.parametrize(
    "salt", [b"\x02\x01\x05", b"\x24\x80\x04\x01\x05\x00\x00", b"\x04\x81\x01\x05", b"\x04\x7f", b""]
)
def test_salt_of_a_mac_is_an_octet_string(salt: bytes) -> None:
    others = unwrap(encode(PBMParameter(salt=b"", owf=SHA256, iteration_count=500, mac=HMAC)))[2:]
    wrong = encode(algorithm(oids.PASSWORD_BASED_MAC, wrap(0x30, salt + others)))
    assert refusal(message(protection_alg=wrong)).failure is FailureInfo.BAD_DATA_FORMAT


def test_ids_and_names_are_at_hand() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
    admitted = admit(message(message_time=moment, recip_nonce=bytes(8), sender_kid=b"kid", recip_kid=b"other"))
    assert (admitted.sender, admitted.recipient) == (NAME, NULL_DN)
    assert admitted.transaction_id == bytes(16)
    assert admitted.sender_nonce == bytes(range(16))
    assert admitted.recip_nonce == bytes(8)
    assert admitted.sender_kid == b"kid"
    assert admitted.protection_algorithm == oids.PASSWORD_BASED_MAC
    assert admitted.message_time == moment.replace(microsecond=0)
    assert not admitted.implicit_confirm
    assert admit(message(message_time=None)).message_time is None


def test_sender_that_is_no_directory_name_is_none() -> None:
    for general in (
        b"\x82\x03abc",
        b"\xa4\x02\x05\x00",
        b"\xa4\x00",
        b"\xa4\x03\x30\x80\x00",
        b"\xa4\x04\x30\x00\x30\x00",
    ):
        part = protected_part(replace(header(), sender=tlv(general)), BodyType.GENM, GENM)
        assert admit(assemble(part, b"")).sender is None


def test_general_info_is_read() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    admitted = admit(
        message(
            general_info=[
                InfoTypeAndValue.make(oids.IT_IMPLICIT_CONFIRM, Null()),
                InfoTypeAndValue.make(oids.IT_CONFIRM_WAIT_TIME, b"\x18\x0f20260102030405Z"),
                InfoTypeAndValue.make(oids.IT_CERT_PROFILE, wrap(0x30, b"\x0c\x03tls\x0c\x04ipse")),
            ]
        )
    )
    assert admitted.implicit_confirm
    assert admitted.confirm_wait_time == moment
    assert admitted.cert_profile == ("tls", "ipse")


@pytest.mark.parametrize("value", [None, b"\x05\x00", b"\x30\x02\x05\x00", b"\x30\x02\x0c\x05"])
def test_general_info_of_the_wrong_type_is_bad_data(value: bytes | None) -> None:
    admitted = admit(
        message(
            general_info=[
                InfoTypeAndValue.make(oids.IT_CONFIRM_WAIT_TIME, value),
                InfoTypeAndValue.make(oids.IT_CERT_PROFILE, value),
            ]
        )
    )
    for read in (lambda: admitted.confirm_wait_time, lambda: admitted.cert_profile):
        with pytest.raises(BadMessage) as caught:
            read()
        assert caught.value.failure is FailureInfo.BAD_DATA_FORMAT
        assert caught.value.header is admitted.header


def test_message_without_protection_passes() -> None:
    admitted = admit(message(protection=None, protection_alg=None))
    assert admitted.protection is None
    assert admitted.mac is None
    assert admitted.protection_algorithm is None


def test_signature_algorithms_have_no_mac_parameters() -> None:
    ecdsa = encode(algorithm("1.2.840.10045.4.3.2"))
    assert admit(message(protection_alg=ecdsa)).mac is None


@pytest.mark.parametrize("body_type", [BodyType.ERROR, BodyType.CKUANN, BodyType.CANN, BodyType.RANN, BodyType.CRLANN])
def test_error_and_announcements_need_no_transaction_id(body_type: BodyType) -> None:
    assert admit(message(body_type=body_type, transaction_id=None)).transaction_id is None


# -- the outside ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        b"\x30\x80",
        b"\x30\x80\x00\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x88" + b"\xff" * 8,
        b"\x31" + message()[1:],
        message() + b"\x00",
        message() + message(),
        message()[:-1],
        b"\x30" * 5000,
        (b"\x30\x80" * 5000),
        b"not a message",
    ],
    ids=lambda der: der[:6].hex(),
)
def test_what_is_no_single_der_element_is_bad_data(der: bytes) -> None:
    assert refusal(der).failure is FailureInfo.BAD_DATA_FORMAT


def test_length_that_is_not_minimal_is_refused() -> None:
    der = message(protection=None, protection_alg=None, general_info=())
    assert der[1] == 0x81 or der[1] < 0x80
    content = der[2:] if der[1] < 0x80 else der[3:]
    longer = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    assert refusal(longer).failure is FailureInfo.BAD_DATA_FORMAT


def test_header_is_told_even_when_the_rest_is_broken() -> None:
    for der in (message() + b"\x00", message()[:-5], message(body=b"\x05\x00"), message(body=b"")):
        error = refusal(der)
        assert error.failure is FailureInfo.BAD_DATA_FORMAT
        assert error.header is not None
        assert error.header.transaction_id == bytes(16)
        assert error.header.sender_nonce == bytes(range(16))


def test_ids_too_long_to_echo_are_not_told() -> None:
    assert refusal(message(transaction_id=bytes(500)) + b"\x00").header is None


def test_bodies_outside_the_27_are_refused() -> None:
    for body in (b"\xbb\x02\x05\x00", b"\xbf\x1f\x02\x05\x00", b"\x30\x00", b"\x95\x00", b"\x80\x00"):
        der = wrap(0x30, encode(header()) + body + wrap(0xA0, b"\x03\x01\x00"))
        error = refusal(der)
        assert error.failure is FailureInfo.BAD_DATA_FORMAT


def test_body_types_that_a_role_does_not_take_are_bad_requests() -> None:
    error = refusal(message(), accept=frozenset((BodyType.IR,)))
    assert error.failure is FailureInfo.BAD_REQUEST
    assert error.header is not None
    assert admit(message(), accept=frozenset((BodyType.GENM,))).body_type is BodyType.GENM


@pytest.mark.parametrize("pvno", [0, 1, 4, -2, 2**64, 2**4000])
def test_other_versions_are_unsupported(pvno: int) -> None:
    error = refusal(message(pvno=pvno))
    assert error.failure is FailureInfo.UNSUPPORTED_VERSION
    assert error.header is not None


def test_version_may_be_an_integer_of_a_megabyte() -> None:
    huge = wrap(0x02, b"\x01" * 1_000_000)
    rest = encode(header())
    der = wrap(0x30, wrap(0x30, huge + rest[6:]) + b"\xb5\x02\x30\x00")
    assert refusal(der).failure is FailureInfo.BAD_DATA_FORMAT


# -- bounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"transaction_id": None}, FailureInfo.BAD_DATA_FORMAT),
        ({"transaction_id": bytes(7)}, FailureInfo.BAD_REQUEST),
        ({"transaction_id": bytes(65)}, FailureInfo.BAD_REQUEST),
        ({"transaction_id": b""}, FailureInfo.BAD_REQUEST),
        ({"sender_nonce": bytes(7)}, FailureInfo.BAD_SENDER_NONCE),
        ({"sender_nonce": bytes(65)}, FailureInfo.BAD_SENDER_NONCE),
        ({"recip_nonce": bytes(7)}, FailureInfo.BAD_RECIPIENT_NONCE),
        ({"recip_nonce": bytes(65)}, FailureInfo.BAD_RECIPIENT_NONCE),
        ({"sender_kid": bytes(513)}, FailureInfo.BAD_DATA_FORMAT),
        ({"recip_kid": bytes(513)}, FailureInfo.BAD_DATA_FORMAT),
        ({"sender": wrap(0x30, bytes(2) * 3000)}, FailureInfo.BAD_DATA_FORMAT),
        ({"recipient": wrap(0x30, bytes(2) * 3000)}, FailureInfo.BAD_DATA_FORMAT),
        ({"free_text": ["a"] * 17}, FailureInfo.BAD_DATA_FORMAT),
        ({"free_text": ["a" * 4097]}, FailureInfo.BAD_DATA_FORMAT),
        ({"free_text": ["a"] * 20_000}, FailureInfo.BAD_DATA_FORMAT),
        ({"general_info": [InfoTypeAndValue.make("1.2.3")] * 33}, FailureInfo.BAD_DATA_FORMAT),
        ({"general_info": [InfoTypeAndValue.make("1.2.3")] * 9000}, FailureInfo.BAD_DATA_FORMAT),
        ({"general_info": [InfoTypeAndValue.make("1.2.3", wrap(4, bytes(70_000)))]}, FailureInfo.BAD_DATA_FORMAT),
        ({"extra": (b"\x30\x00",) * 33}, FailureInfo.BAD_DATA_FORMAT),
        ({"extra": (wrap(0x30, bytes(70_000)),)}, FailureInfo.BAD_DATA_FORMAT),
        ({"extra": (b"\x05\x00",)}, FailureInfo.BAD_DATA_FORMAT),
        ({"protection": bytes(70_000)}, FailureInfo.BAD_DATA_FORMAT),
        ({"protection": None}, FailureInfo.WRONG_INTEGRITY),
        ({"protection_alg": None}, FailureInfo.WRONG_INTEGRITY),
        ({"protection_alg": pbm(iterations=0)}, FailureInfo.BAD_ALG),
        ({"protection_alg": pbm(iterations=-1)}, FailureInfo.BAD_ALG),
        ({"protection_alg": pbm(iterations=10_001)}, FailureInfo.BAD_ALG),
        ({"protection_alg": pbm(iterations=2**5000)}, FailureInfo.BAD_ALG),
        ({"protection_alg": pbm(salt=bytes(129))}, FailureInfo.BAD_ALG),
    ],
    ids=repr,
)
def test_bounds_are_kept_and_told_by_the_right_bit(changes: dict[str, Any], failure: FailureInfo) -> None:
    assert refusal(message(**changes)).failure is failure


def test_limits_can_be_widened() -> None:
    der = message(protection_alg=pbm(iterations=100_000))
    assert admit(der, limits=Limits(max_mac_iterations=100_000)).mac is not None


def test_message_above_the_size_limit_is_refused_unread() -> None:
    assert refusal(message(), limits=Limits(max_message_bytes=50)).failure is FailureInfo.BAD_DATA_FORMAT


def test_protection_must_be_whole_octets() -> None:
    der = wrap(0x30, encode(header()) + wrap(0xB5, GENM) + wrap(0xA0, b"\x03\x02\x07\x80"))
    assert refusal(der).failure is FailureInfo.BAD_DATA_FORMAT


# A message is at most 1 MiB, and is copied once or twice on its way. Decoding it whole would build 20 to 100 MiB of objects.
MOST_BUILT = 6 << 20


def _read(der: bytes) -> object:
    return admit(der).content()


def built(read: Callable[[], object]) -> int:
    """The most bytes that reading held at once: unlike its time, the same on a busy machine."""
    tracemalloc.start()
    try:
        with contextlib.suppress(BadMessage):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ITEMS = {
    BodyType.IR: wrap(0x30, wrap(0x30, b"\x02\x01\x00\x30\x00")),
    BodyType.RR: wrap(0x30, b"\x30\x00"),
    BodyType.CERT_CONF: wrap(0x30, b"\x04\x00\x02\x01\x00"),
    BodyType.POLL_REQ: wrap(0x30, b"\x02\x01\x00"),
    BodyType.POLL_REP: wrap(0x30, b"\x02\x01\x00\x02\x01\x00"),
    BodyType.POPDECR: b"\x02\x01\x00",
    BodyType.GENM: wrap(0x30, b"\x06\x01\x2a"),
    BodyType.CRLANN: b"\x30\x00",
    BodyType.NESTED: b"\x30\x00",
}


@pytest.mark.parametrize("body_type", list(ITEMS), ids=lambda body_type: body_type.text)
def test_items_of_a_body_are_counted_before_they_are_decoded(body_type: BodyType) -> None:
    limits = Limits(max_requests=3, max_infos=3, max_nested_messages=3)
    item = ITEMS[body_type]
    assert len(admit(message(wrap(0x30, item * 3), body_type), limits=limits).content()) == 3
    error = refusal(message(wrap(0x30, item * 4), body_type), limits=limits)
    assert error.failure is FailureInfo.BAD_REQUEST
    assert error.header is not None


def test_huge_lists_cost_no_more_than_the_limits_allow() -> None:
    bombs = [message(wrap(0x30, item * (1_000_000 // len(item))), kind) for kind, item in ITEMS.items()]
    extension = wrap(0x30, b"\x06\x01\x2a\x04\x00")
    template = wrap(0x30, wrap(0xA9, extension * 110_000))
    bombs.append(message(wrap(0x30, wrap(0x30, wrap(0x30, b"\x02\x01\x00" + template))), BodyType.IR))
    bombs.append(message(wrap(0x30, wrap(0xA1, wrap(0x30, b"\x30\x00" * 400_000)) + b"\x30\x00"), BodyType.IP))
    texts = wrap(0x30, b"\x0c\x00" * 400_000)
    bombs.append(message(wrap(0x30, b"\x30" + wrap(0x30, b"\x02\x01\x02" + texts)[1:]), BodyType.ERROR))
    bombs.append(message(extra=(b"\x30\x00",) * 400_000))
    bombs.append(message(wrap(0x30, wrap(0x30, wrap(0x02, b"\x01" * 900_000))), BodyType.POLL_REQ))
    for bomb in bombs:
        assert built(partial(_read, bomb)) < MOST_BUILT


@pytest.mark.parametrize("body_type", list(BodyType), ids=lambda body_type: body_type.text)
def test_long_lists_at_any_depth_of_a_body_cost_little(body_type: BodyType) -> None:
    for item in (b"\x30\x00", b"\x0c\x00", b"\x02\x01\x00", wrap(0x30, b"\x06\x01\x2a\x04\x00")):
        many = wrap(0x30, item * (400_000 // len(item)))
        for body in (
            many,
            wrap(0x30, many),
            wrap(0x30, b"\x02\x01\x02" + many),
            wrap(0x30, wrap(0x30, b"\x02\x01\x02" + many)),
            wrap(0x30, wrap(0x30, wrap(0x30, b"\x02\x01\x02" + many))),
            wrap(0x30, wrap(0xA1, many) + b"\x30\x00"),
            wrap(0x30, b"\x30\x00" + wrap(0xA0, many)),
        ):
            assert built(admit(message(body, body_type)).content) < MOST_BUILT


def test_deep_nesting_of_anything_is_bounded() -> None:
    deep = b"\x30\x00"
    while len(deep) < 60_000:
        deep = wrap(0x30, deep)
    for body_type in BodyType:
        for body in (deep, wrap(0x30, deep)):
            admitted = admit(message(body, body_type))
            assert built(admitted.content) < MOST_BUILT
            with pytest.raises(BadMessage):
                admitted.nested()


# -- MAC parameters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [None, b"\x05\x00", b"\x01\x01\xff", b"\x02\x01\x05", b"\x04\x02ab", b"\x31\x00", b"\xa0\x00", b"\x30\x00"],
    ids=lambda parameters: "absent" if parameters is None else parameters.hex(),
)
@pytest.mark.parametrize("oid", [oids.PASSWORD_BASED_MAC, oids.PBMAC1, oids.KEM_BASED_MAC])
def test_mac_parameters_that_are_no_sequence_of_theirs_are_refused(oid: str, parameters: bytes | None) -> None:
    """CVE-2026-63076: with such PBM parameters one unauthenticated message crashes OpenSSL."""
    error = refusal(message(protection_alg=encode(algorithm(oid, parameters))))
    assert error.failure is FailureInfo.BAD_DATA_FORMAT
    assert error.header is not None


def pbmac1(derivation: str = oids.PBKDF2, salt: bytes = bytes(16), count: int = 500, length: int | None = 32) -> bytes:
    inner = PBKDF2Params(salt=salt, iteration_count=count, key_length=length, prf=HMAC)
    parameters = PBMAC1Params(key_derivation_func=algorithm(derivation, encode(inner)), message_auth_scheme=HMAC)
    return encode(algorithm(oids.PBMAC1, encode(parameters)))


def test_pbmac1_is_read_and_bounded() -> None:
    assert isinstance(admit(message(protection_alg=pbmac1())).mac, PBMAC1Params)
    assert isinstance(admit(message(protection_alg=pbmac1(length=None))).mac, PBMAC1Params)
    for bad in (
        pbmac1(derivation="1.2.3"),
        pbmac1(salt=bytes(200)),
        pbmac1(count=10_001),
        pbmac1(count=0),
        pbmac1(length=0),
        pbmac1(length=2**70),
    ):
        assert refusal(message(protection_alg=bad)).failure is FailureInfo.BAD_ALG
    without = PBMAC1Params(key_derivation_func=algorithm(oids.PBKDF2), message_auth_scheme=HMAC)
    der = message(protection_alg=encode(algorithm(oids.PBMAC1, encode(without))))
    assert refusal(der).failure is FailureInfo.BAD_ALG


def test_kem_based_mac_is_read_and_bounded() -> None:
    def kem(length: int, context: bytes | None = None) -> bytes:
        parameters = KemBMParameter(kdf=SHA256, kem_context=context, len=length, mac=HMAC)
        return message(protection_alg=encode(algorithm(oids.KEM_BASED_MAC, encode(parameters))))

    assert isinstance(admit(kem(32, b"context")).mac, KemBMParameter)
    for bad in (kem(0), kem(257), kem(32, bytes(1000))):
        assert refusal(bad).failure is FailureInfo.BAD_ALG


# -- nested --------------------------------------------------------------------------------------------------------


def nest(*inner: bytes) -> bytes:
    return message(wrap(0x30, b"".join(inner)), BodyType.NESTED)


def test_nested_messages_are_admitted_each() -> None:
    outer = admit(nest(message(sender_kid=b"a"), message(sender_kid=b"b")))
    assert [(inner.sender_kid, inner.depth) for inner in outer.nested()] == [(b"a", 1), (b"b", 1)]


def test_nested_too_deep_is_a_bad_request() -> None:
    der = message()
    for _ in range(4):
        der = nest(der)
    current = admit(der)
    for _ in range(3):
        (current,) = current.nested()
    with pytest.raises(BadMessage) as caught:
        current.nested()
    assert caught.value.failure is FailureInfo.BAD_REQUEST


def test_bad_message_inside_is_refused_with_its_own_header() -> None:
    outer = admit(nest(message(), message(pvno=1, transaction_id=bytes(9))))
    with pytest.raises(BadMessage) as caught:
        outer.nested()
    assert caught.value.failure is FailureInfo.UNSUPPORTED_VERSION
    assert caught.value.header is not None
    assert caught.value.header.transaction_id == bytes(9)
    with pytest.raises(BadMessage, match="not accepted"):
        outer.nested(accept=frozenset((BodyType.IR,)))


# -- only BadMessage -----------------------------------------------------------------------------------------------


def outcome(read: Callable[[], Any]) -> tuple[Any, BadMessage | None]:
    """What ``read`` gives. Only BadMessage may leave it, with a ValueError for its cause: else it hides a bug."""
    try:
        return read(), None
    except BadMessage as error:
        if not isinstance(error.__cause__, ValueError | IndexError | None):
            raise AssertionError("the gate itself failed") from error
        return None, error


def survive(der: bytes) -> None:
    admitted, _ = outcome(lambda: admit(der))
    if admitted is not None:
        for read in (
            admitted.content,
            admitted.nested if admitted.body_type is BodyType.NESTED else admitted.content,
            lambda: admitted.confirm_wait_time,
            lambda: admitted.cert_profile,
            lambda: (admitted.sender, admitted.recipient, admitted.message_time, admitted.implicit_confirm),
        ):
            _, error = outcome(read)
            assert error is None or error.header is not None


def mutations(amount: int, source: random.Random) -> Any:
    pool = list(MESSAGES.values())
    for _ in range(amount):
        data = bytearray(source.choice(pool))
        for _ in range(source.choice((1, 1, 2, 5))):
            at = source.randrange(len(data))
            match source.randrange(6):
                case 0:
                    data[at] ^= 1 << source.randrange(8)
                case 1:
                    data[at] = source.randrange(256)
                case 2:
                    del data[at:]
                case 3:
                    del data[at : at + source.randrange(1, 20)]
                case 4:
                    data[at:at] = source.randbytes(source.randrange(1, 20))
                case _:
                    data[at] = source.choice((0x80, 0xFF, 0x00, 0x30, 0x84))
            if not data:
                break
        yield bytes(data)


def test_nothing_but_bad_message_leaves_on_ten_thousand_broken_messages() -> None:
    for der in mutations(10_000, random.Random(63076)):
        survive(der)


def test_every_truncation_of_a_message_is_refused() -> None:
    der = MESSAGES["mac_ir_implicit-1a-ir"]
    for size in range(len(der)):
        assert refusal(der[:size]).failure is FailureInfo.BAD_DATA_FORMAT


def test_every_bit_of_a_message_may_be_flipped() -> None:
    der = MESSAGES["mac_genm-1a-genm"]
    for bit in range(len(der) * 8):
        data = bytearray(der)
        data[bit // 8] ^= 1 << bit % 8
        survive(bytes(data))


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_random_bytes_are_survived(data: bytes) -> None:
    survive(data)
    survive(wrap(0x30, data))


@given(st.sampled_from(BodyType), st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bodies_are_survived(body_type: BodyType, data: bytes) -> None:
    survive(message(data, body_type))
    survive(message(wrap(0x30, data), body_type))
    survive(message(wrap(0x30, wrap(0x30, data)), body_type))
