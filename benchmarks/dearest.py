"""What does the dearest message cost that a stranger can send?

    python -m benchmarks.dearest
    python -m benchmarks.dearest --tries 200 --json

sends a server with default settings, which knows the stranger neither by a secret nor by a certificate, the messages that
should make it work hardest: MACs at their bounds under every hash, signatures under every kind of key with the dearest key that
is accepted, certificates by the dozen, structures that are long or deep, in messages as long as they may be. It prints the
CPU of this thread for each, the least of so many tries; every try has another transactionID, so that nothing is answered from
what is remembered. ``tests/server/test_dearest.py`` counts the steps, which a busy machine cannot change.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from opensslcmp.asn1 import (
    AlgorithmIdentifier,
    Limits,
    PBKDF2Params,
    PBMAC1Params,
    PBMParameter,
    algorithm,
    assemble,
    attach_signature,
    encode,
    make_header,
    oids,
    protected_part,
    wrap,
)
from opensslcmp.context.certificates import facts
from opensslcmp.context.keys import DEFAULT_KEY_BOUNDS, PrivateKey
from opensslcmp.context.protection import MacLimits
from opensslcmp.enums import BodyType
from opensslcmp.errors import OpenSSLError, Unsupported
from opensslcmp.server import open_responder
from opensslcmp.server.ca import CA

Maker = Callable[[], bytes]
"""Makes one message; each has a transactionID of its own."""

_LIMITS = Limits()
_SHA256 = ("2.16.840.1.101.3.4.2.1", "1.2.840.113549.2.9")
_HASHES = {
    "SHA-1": ("1.3.14.3.2.26", "1.2.840.113549.2.7", 1, 1),
    "SHA-256": (*_SHA256, 1, 1),
    "SHA-512": ("2.16.840.1.101.3.4.2.3", "1.2.840.113549.2.11", 3, 2),
    "SHA3-512": ("2.16.840.1.101.3.4.2.10", "2.16.840.1.101.3.4.2.16", 4, 4),
}
"""owf, HMAC, and by what the bounds of PasswordBasedMac and of PBMAC1 are divided."""
_KINDS = ("ec:P-256", "ec:P-384", "ec:P-521", "ec:brainpoolP512r1", "ec:brainpoolP512t1", "ed25519", "ed448")
_KINDS_3_5 = (
    "ml-dsa-87",
    *(f"slh-dsa-{family}-{size}{how}" for family in ("sha2", "shake") for size in (128, 256) for how in "sf"),
)


def _message(
    *,
    body: bytes = b"\x30\x00",
    kind: BodyType = BodyType.GENM,
    identifier: AlgorithmIdentifier | bytes | None = None,
    protection: Callable[[bytes], bytes] | None = None,
    certificates: tuple[bytes, ...] = (),
    sender: bytes = b"\x30\x00",
    kid: bytes | None = b"stranger",
) -> bytes:
    header = make_header(
        sender=sender,
        recipient=b"\x30\x00",
        transaction_id=os.urandom(16),
        sender_nonce=os.urandom(16),
        sender_kid=kid,
        protection_alg=identifier,
    )
    part = protected_part(header, kind, body)
    return assemble(part, None if protection is None else protection(part), certificates)


def _certificate(spki: bytes, subject: bytes, issuer: bytes, extensions: bytes = b"") -> bytes:
    """A certificate that nobody signed."""
    how = encode(algorithm("1.2.840.10045.4.3.2"))
    times = wrap(0x30, wrap(0x17, b"200101000000Z") + wrap(0x17, b"490101000000Z"))
    number = wrap(0x02, b"\x01" + os.urandom(15))
    fields = b"\xa0\x03\x02\x01\x02" + number + how + issuer + times + subject + spki
    if extensions:
        fields += wrap(0xA3, wrap(0x30, extensions))
    return attach_signature(wrap(0x30, fields), how, bytes(70))


def _name(text: bytes) -> bytes:
    return wrap(0x30, wrap(0x31, wrap(0x30, b"\x06\x03\x55\x04\x03" + wrap(0x0C, text))))


def _signed(key: PrivateKey, others: tuple[bytes, ...] = (), body: bytes = b"\x30\x00", issuer: bytes = b"") -> Maker:
    """Signed well, by nobody whom the server knows."""
    how = key.signature_algorithm()
    subject = _name(b"stranger")
    certificate = _certificate(key.public_key_der, subject, issuer or _name(b"nowhere"))

    def make() -> bytes:
        return _message(
            body=body,
            identifier=how,
            protection=lambda part: key.sign(part, how),
            certificates=(certificate, *others),
            sender=subject,
            kid=None,
        )

    return make


def _rsa(bits: int, exponent: int, pss: bool = False) -> Maker:
    """A signature that does not verify, under a modulus that nobody can factor: it costs what a good one costs."""
    size = bits // 8
    modulus = int.from_bytes(b"\xff" + os.urandom(size - 1), "big") | 1
    number = b"\0" + modulus.to_bytes(size, "big")
    key = wrap(0x30, wrap(0x02, number) + encode(exponent))
    spki = wrap(0x30, wrap(0x30, b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00") + wrap(0x03, b"\0" + key))
    subject = _name(b"stranger")
    certificate = _certificate(spki, subject, _name(b"nowhere"))
    how: bytes | AlgorithmIdentifier = algorithm("1.2.840.113549.1.1.11", b"\x05\x00")
    if pss:
        how = PrivateKey.generate("rsa:2048").signature_algorithm("SHA256", pss=True)
    return lambda: _message(
        identifier=how,
        protection=lambda _: b"\x7f" + os.urandom(size - 1),
        certificates=(certificate,),
        sender=subject,
        kid=None,
    )


def _macs() -> Iterator[tuple[str, Maker]]:
    bounds = MacLimits()
    salt = bytes(bounds.max_salt_bytes)
    for name, (owf, mac, pbm_part, pbkdf2_part) in _HASHES.items():
        parameters = PBMParameter(
            salt=salt,
            owf=algorithm(owf),
            iteration_count=bounds.max_iterations // pbm_part,
            mac=algorithm(mac),
        )
        yield f"PasswordBasedMac, {name}", _mac(algorithm(oids.PASSWORD_BASED_MAC, encode(parameters)))
        prf = algorithm(mac, b"\x05\x00")
        derivation = PBKDF2Params(
            salt=salt,
            iteration_count=bounds.max_pbkdf2_iterations // pbkdf2_part,
            key_length=64,
            prf=None if name == "SHA-1" else prf,
        )
        both = PBMAC1Params(key_derivation_func=algorithm(oids.PBKDF2, encode(derivation)), message_auth_scheme=prf)
        yield f"PBMAC1, {name}", _mac(algorithm(oids.PBMAC1, encode(both)))


def _mac(identifier: AlgorithmIdentifier, body: bytes = b"\x30\x00") -> Maker:
    return lambda: _message(identifier=identifier, protection=lambda _: os.urandom(32), body=body)


def _structures(ca: bytes) -> Iterator[tuple[str, Maker]]:
    size = _LIMITS.max_message_bytes
    room = size - 1000
    about = facts(ca)
    plain = algorithm(
        oids.PASSWORD_BASED_MAC,
        encode(PBMParameter(salt=bytes(16), owf=algorithm(_SHA256[0]), iteration_count=1, mac=algorithm(_SHA256[1]))),
    )
    yield "garbage, 1 kB", lambda: os.urandom(1000)
    yield "zeros, as long as may be", lambda: bytes(size)
    yield "longer than may be", lambda: bytes(size + 1)
    yield "a MAC over a message as long as may be", _mac(plain, wrap(0x30, bytes(room)))
    yield "a body of empty lists", _mac(plain, wrap(0x30, b"\x30\x00" * (room // 2)))
    deep = b""
    while len(deep) < min(room, 60_000):
        deep = wrap(0x30, deep)
    yield "a body of lists in lists", _mac(plain, deep)
    yield (
        "not protected, a body of empty lists",
        lambda: _message(body=wrap(0x30, b"\x30\x00" * (room // 2)), kind=BodyType.IR),
    )
    infos = b"\x30\x04\x06\x02\x2a\x03" * (_LIMITS.max_header_bytes // 6 - 200)
    yield "a header of infos", lambda: _with_infos(infos)
    for count in _LIMITS.max_extra_certs, room // 2:
        empty = (b"\x30\x00",) * count
        yield f"{count} empty extraCerts", lambda empty=empty: _message(certificates=empty)  # type: ignore[misc]
    key = PrivateKey.generate("ec:P-256")
    alike = tuple([_certificate(key.public_key_der, about.subject, about.subject) for _ in range(31)])
    yield "31 certificates with the name of the CA", _signed(key, alike, issuer=about.subject)
    names = [_name(b"%d" % number) for number in range(32)]
    chain = tuple([_certificate(key.public_key_der, names[at], names[at + 1]) for at in range(31)])
    yield "a chain of 31 that leads nowhere", _signed(key, chain, issuer=names[0])
    chain = (*chain[:9], _certificate(key.public_key_der, names[9], about.subject))
    yield "a chain of 10 that leads to the CA", _signed(key, chain, issuer=names[0])
    each = min(_LIMITS.max_certificate_bytes, room // 32) - 600
    wide = wrap(0x30, b"\x06\x03\x55\x04\x03" + wrap(0x0C, b"A"))
    wide_name = wrap(0x30, wrap(0x31, wide) * (each // 2 // (len(wide) + 2)))
    alike = tuple([_certificate(key.public_key_der, wide_name, wide_name) for _ in range(31)])
    yield "31 certificates with long names", _signed(key, alike, issuer=wide_name)
    unknown = wrap(0x30, b"\x06\x03\x2a\x03\x04" + wrap(0x04, b""))
    many = tuple(
        [
            _certificate(key.public_key_der, about.subject, about.subject, unknown * (each // len(unknown)))
            for _ in range(31)
        ]
    )
    yield "31 certificates with many extensions", _signed(key, many, issuer=about.subject)
    general = wrap(0x30, b"\x06\x03\x55\x1d\x11" + wrap(0x04, wrap(0x30, b"\x82\x01a" * (each // 3))))
    many = tuple([_certificate(key.public_key_der, about.subject, about.subject, general) for _ in range(31)])
    yield "31 certificates with many names", _signed(key, many, issuer=about.subject)
    inner = _message()
    nested = wrap(0x30, inner * min(_LIMITS.max_nested_messages, room // len(inner)))
    how = key.signature_algorithm()
    certificate = _certificate(key.public_key_der, _name(b"stranger"), _name(b"nowhere"))
    yield (
        "a batch",
        lambda: _message(
            kind=BodyType.NESTED,
            body=nested,
            identifier=how,
            protection=lambda part: key.sign(part, how),
            certificates=(certificate,),
            sender=_name(b"stranger"),
            kid=None,
        ),
    )


def _with_infos(infos: bytes) -> bytes:
    header = encode(
        make_header(
            sender=b"\x30\x00", recipient=b"\x30\x00", transaction_id=os.urandom(16), sender_nonce=os.urandom(16)
        )
    )
    return wrap(0x30, wrap(0x30, header[2:] + wrap(0xA8, wrap(0x30, infos))) + wrap(0xB5, b"\x30\x00"))


def cases(ca: bytes) -> Iterator[tuple[str, Maker]]:
    """What to send to a server of this CA, by a description of it."""
    yield from _structures(ca)
    yield from _macs()
    bits = DEFAULT_KEY_BOUNDS.max_rsa_bits
    yield f"RSA of {bits} bits", _rsa(bits, 65537)
    yield f"RSA of {bits} bits, an exponent of 64", _rsa(bits, 2**64 - 59)
    yield f"RSASSA-PSS of {bits} bits, an exponent of 64", _rsa(bits, 2**64 - 59, pss=True)
    yield "RSA of 2048 bits, an exponent of 64", _rsa(2048, 2**64 - 59)
    for kind in (*_KINDS, *_KINDS_3_5):
        try:
            key = PrivateKey.generate(kind)
        except (Unsupported, OpenSSLError):
            continue
        yield f"signature by {kind}", _signed(key)


def measured(handle: Callable[[bytes], bytes], make: Maker, tries: int) -> float:
    """CPU of a message, in microseconds: the least of all tries, since others on the machine only add to it."""
    times = []
    for _ in range(tries):
        message = make()
        began = time.thread_time()
        handle(message)
        times.append(time.thread_time() - began)
    return min(times) * 1e6


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--only", default="", help="of those whose description holds this")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        ca = CA.create(Path(directory) / "ca", "CN=CA")
        ca.close()
        responder = open_responder(Path(directory) / "ca")
        responder._throttle = None  # which would stop this stranger soon; there are always others
        found = {}
        for name, make in cases(ca.certificate):
            if options.only in name:
                measured(responder.handle, make, 3)
                found[name] = round(measured(responder.handle, make, options.tries), 1)
        responder.close()
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, microseconds in sorted(found.items(), key=lambda each: -each[1]):
        print(f"{microseconds:9.1f} us  {name}")


if __name__ == "__main__":
    main()
