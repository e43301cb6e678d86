"""How certificate paths are verified: X509_VERIFY_PARAM as a dataclass (X509_VERIFY_PARAM_set_flags(3)).

The attributes are the options of openssl-verification-options(1), under their names where Python has no better one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from opensslcmp._native import lib
from opensslcmp._native.memory import give, own
from opensslcmp._native.queue import check, clear

__all__ = ["FLAGS", "VerifyParameters"]

FLAGS: dict[str, int] = {
    "ignore_critical": lib.X509_V_FLAG_IGNORE_CRITICAL,
    "crl_check": lib.X509_V_FLAG_CRL_CHECK,
    "crl_check_all": lib.X509_V_FLAG_CRL_CHECK | lib.X509_V_FLAG_CRL_CHECK_ALL,
    "policy_check": lib.X509_V_FLAG_POLICY_CHECK,
    "explicit_policy": lib.X509_V_FLAG_EXPLICIT_POLICY,
    "inhibit_any": lib.X509_V_FLAG_INHIBIT_ANY,
    "inhibit_map": lib.X509_V_FLAG_INHIBIT_MAP,
    "x509_strict": lib.X509_V_FLAG_X509_STRICT,
    "extended_crl": lib.X509_V_FLAG_EXTENDED_CRL_SUPPORT,
    "use_deltas": lib.X509_V_FLAG_USE_DELTAS,
    "policy_print": lib.X509_V_FLAG_NOTIFY_POLICY,
    "check_ss_sig": lib.X509_V_FLAG_CHECK_SS_SIGNATURE,
    "trusted_first": lib.X509_V_FLAG_TRUSTED_FIRST,
    "suiteB_128_only": lib.X509_V_FLAG_SUITEB_128_LOS_ONLY,
    "suiteB_128": lib.X509_V_FLAG_SUITEB_128_LOS,
    "suiteB_192": lib.X509_V_FLAG_SUITEB_192_LOS,
    "partial_chain": lib.X509_V_FLAG_PARTIAL_CHAIN,
    "no_alt_chains": lib.X509_V_FLAG_NO_ALT_CHAINS,
    "no_check_time": lib.X509_V_FLAG_NO_CHECK_TIME,
    "allow_proxy_certs": lib.X509_V_FLAG_ALLOW_PROXY_CERTS,
}
"""Name of an option -> the X509_V_FLAG_* bits that it sets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyParameters:
    """What a certificate path must be like, beyond its signatures.

    Args:
        flags: names out of ``FLAGS``.
        policies: acceptable certificate policies: names or dotted numbers.
        purpose: such as ``sslserver`` or ``any``; None for what the user of the path asks for.
        name: a set of OpenSSL's to begin with, such as ``ssl_server``.
        depth: how many intermediate certificates a path may have.
        auth_level: security level of keys and signatures, 0 to 5.
        at: the time to verify for, in seconds since the epoch, or None for now.
        host, email, ip: that the certificate itself must carry.

    Raises:
        ValueError: OpenSSL knows no such flag, policy, purpose or name, or the address is none.
    """

    flags: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    purpose: str | None = None
    name: str | None = None
    depth: int | None = None
    auth_level: int | None = None
    at: int | None = None
    host: str | None = None
    email: str | None = None
    ip: str | None = None

    def __post_init__(self) -> None:
        self.native()

    def for_messages(self) -> VerifyParameters:
        """The same without names of the peer: those that sign messages are not hosts."""
        return dataclasses.replace(self, host=None, email=None, ip=None)

    def for_new_certificate(self) -> VerifyParameters:
        """The same for the present time: a new certificate is not valid at any other."""
        return dataclasses.replace(self, at=None)

    def native(self) -> Any:
        """An owned X509_VERIFY_PARAM.

        Source: X509_VERIFY_PARAM_set_flags(3).
        """
        made = own(lib.X509_VERIFY_PARAM_new(), lib.X509_VERIFY_PARAM_free)
        try:
            self._fill(made)
        finally:
            clear()
        return made

    def _fill(self, made: Any) -> None:
        if self.name is not None:
            found = lib.X509_VERIFY_PARAM_lookup(self.name.encode())
            _known(found, "set of verification parameters", self.name)
            check(lib.X509_VERIFY_PARAM_set1(made, found))
        flags = 0
        for name in self.flags:
            _known(name in FLAGS, "verification flag", name)
            flags |= FLAGS[name]
        if flags:
            check(lib.X509_VERIFY_PARAM_set_flags(made, flags))
        for policy in self.policies:
            found = lib.OBJ_txt2obj(policy.encode(), 0)
            _known(found, "policy", policy)
            held = own(found, lib.ASN1_OBJECT_free)
            check(lib.X509_VERIFY_PARAM_add0_policy(made, held))
            give(held)
        if self.purpose is not None:
            number = lib.opensslcmp_purpose(self.purpose.encode())
            _known(number >= 0, "purpose", self.purpose)
            check(lib.X509_VERIFY_PARAM_set_purpose(made, number))
        if self.depth is not None:
            lib.X509_VERIFY_PARAM_set_depth(made, self.depth)
        if self.auth_level is not None:
            lib.X509_VERIFY_PARAM_set_auth_level(made, self.auth_level)
        if self.at is not None:
            lib.X509_VERIFY_PARAM_set_time(made, self.at)
        if self.host is not None:
            _known(
                lib.X509_VERIFY_PARAM_set1_host(made, self.host.encode(), len(self.host.encode())),
                "host name",
                self.host,
            )
        if self.email is not None:
            # OpenSSL would take what stands before a NUL.
            email = self.email.encode()
            known = b"\0" not in email and lib.X509_VERIFY_PARAM_set1_email(made, email, len(email))
            _known(known, "e-mail address", self.email)
        if self.ip is not None:
            _known(lib.X509_VERIFY_PARAM_set1_ip_asc(made, self.ip.encode()), "IP address", self.ip)


def _known(found: Any, what: str, name: str) -> None:
    if not found:
        raise ValueError(f"OpenSSL knows no {what} {name!r}")
