"""The structures of RFC 9810 (CMP), RFC 4211 (CRMF) and RFC 5280 as dataclasses, and the gate in front of them.

No libcrypto here: DER is read and written by ``cryptography.hazmat.asn1``, in Rust.
"""

from opensslcmp.asn1 import oids
from opensslcmp.asn1.bodies import *
from opensslcmp.asn1.bodies import __all__ as _bodies
from opensslcmp.asn1.certificate import *
from opensslcmp.asn1.certificate import __all__ as _certificate
from opensslcmp.asn1.common import *
from opensslcmp.asn1.common import __all__ as _common
from opensslcmp.asn1.crmf import *
from opensslcmp.asn1.crmf import __all__ as _crmf
from opensslcmp.asn1.gate import *
from opensslcmp.asn1.gate import __all__ as _gate
from opensslcmp.asn1.message import *
from opensslcmp.asn1.message import __all__ as _message

__all__ = [*_bodies, *_certificate, *_common, *_crmf, *_gate, *_message, "oids"]
