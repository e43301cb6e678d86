"""The options of ``opensslcmp cmp``, in groups as its help shows them.

Source: openssl-cmp(1) of OpenSSL 3.5, openssl-verification-options(1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from opensslcmp.context.verification import FLAGS

__all__ = ["GROUPS", "OPTIONS", "Kind", "Option", "usage"]

Kind: TypeAlias = Literal["flag", "text", "list", "count", "number", "positive", "mock"]
"""What follows an option: nothing, text, text that adds up when repeated, a number (from 0; any; from 1). ``mock``: an
option of the mock server, which there is none of here."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Args:
        name: without its dash.
        kind: what follows it.
        help: for people.
        in_config: may stand in a configuration file.
    """

    name: str
    kind: Kind
    help: str
    in_config: bool = True


def _text(name: str, text: str) -> Option:
    return Option(name, "text", text)


def _flag(name: str, text: str) -> Option:
    return Option(name, "flag", text)


def _number(name: str, text: str, kind: Kind = "count") -> Option:
    return Option(name, kind, text)


GROUPS: dict[str, tuple[Option, ...]] = {
    "": (
        Option("help", "flag", "Show this", in_config=False),
        Option("config", "text", 'Configuration file; "" for none; by default $OPENSSL_CONF or OpenSSL\'s own', False),
        Option(
            "section", "text", 'Its sections to read, later ones win; "" for [default] alone; by default cmp', False
        ),
        _number("verbosity", "How much is told: 3 errors, 4 warnings, 6 information (default), 7 debugging, 8 all"),
    ),
    "Generic message": (
        _text("cmd", "What to ask for: ir, cr, kur, p10cr, rr or genm"),
        _text("infotype", "Information to ask for with genm: caCerts, rootCaCert, crlStatusList, certReqTemplate..."),
        _text("profile", "certProfile for the header of requests"),
        _text("geninfo", "generalInfo for the header: OID:int:NUMBER or OID:str:TEXT, with commas"),
        _text("template", "Write the certTemplate that the CA wants here (genm certReqTemplate)"),
        _text("keyspec", "Write the keySpec that comes with it here"),
    ),
    "Certificate enrollment": (
        _text("newkey", "Private or public key to be certified; by default that of -csr, -oldcert or -key"),
        _text("newkeypass", "Its password source"),
        _flag("centralkeygen", "Let the CA make the key (OpenSSL 3.5 or newer)"),
        _text("newkeyout", "Write the key that the CA made here, in PEM"),
        _text("subject", "/type=value/... to be certified; by default that of -csr, -oldcert or -cert"),
        _number("days", "Validity to ask for"),
        _text("reqexts", "Section of the configuration file with extensions to ask for"),
        _text("sans", "Alternative names to ask for: IP, DNS, e-mail or URI, with commas; critical marks them so"),
        _flag("san_nodefault", "Do not take alternative names from -oldcert or -cert"),
        _text("policies", "Section of the configuration file with certificate policies to ask for"),
        _text("policy_oids", "Certificate policies to ask for, with commas"),
        _flag("policy_oids_critical", "Mark those as critical"),
        _number("popo", "Proof of possession: -1 none, 0 raVerified, 1 signature (default), 2 keyEnc", "number"),
        _text("csr", "PKCS#10 request: for p10cr as it is, for others as a source of defaults"),
        _text("out_trusted", "Trust anchors for the new certificate"),
        _flag("implicit_confirm", "Ask the server to waive the confirmation"),
        _flag("disable_confirm", "Send no confirmation in any case (breaks RFC 9810)"),
        _text("certout", "Write the new certificate here"),
        _text("chainout", "Write its chain here; may be the file of -certout"),
    ),
    "Certificate enrollment and revocation": (
        _text("oldcert", "Certificate to update (by default -cert) or to revoke; also a source of defaults"),
        _text("issuer", "/type=value/... of the CA for the template; also a default of -recipient"),
        _text("serial", "Serial number of the certificate to revoke, with -issuer"),
        _number(
            "revreason", "Reason of the revocation (RFC 5280, 5.3.1): 0 to 6, 8 to 10; -1 (default) none", "number"
        ),
    ),
    "Message transfer": (
        _text("server", "[http[s]://]HOST[:PORT][/PATH] of the server"),
        _text("proxy", "[http[s]://]HOST[:PORT] of an HTTP proxy; by default http_proxy or https_proxy"),
        _text("no_proxy", "Hosts to reach without it; by default no_proxy"),
        _text("recipient", "/type=value/... of the CA; by default that of -srvcert, -issuer, -oldcert, -cert"),
        _text("path", "Path on the server; by default that of -server, or /"),
        _number("keep_alive", "Persistent connections: 0 no, 1 wished for (default), 2 required"),
        _number("msg_timeout", "Seconds for a message and its answer; 0 (default) no limit"),
        _number("total_timeout", "Seconds for a transaction with its polling; 0 (default) no limit"),
    ),
    "Server authentication": (
        _text("trusted", "Trust anchors for signed answers"),
        _text("untrusted", "Intermediate certificates: for signers, TLS and new certificates"),
        _text("srvcert", "The only certificate that may sign answers"),
        _text("expect_sender", "/type=value/... that answers must come from; by default that of -srvcert"),
        _flag("ignore_keyusage", "The signer's keyUsage need not allow digitalSignature"),
        _flag("unprotected_errors", "Believe negative answers without protection (breaks RFC 9810)"),
        _flag(
            "ta_in_ip_extracerts",
            "An ip may bring its own trust anchor in extraCerts (3GPP TS 33.310; breaks RFC 9810)",
        ),
        _flag("no_cache_extracerts", "Do not keep extraCerts for the messages that follow"),
        _text("srvcertout", "Write the certificate that signed the answer here"),
        _text("extracertsout", "Write the extraCerts that came here"),
        _text("cacertsout", "Write the caPubs that came, or the answer to genm caCerts, here"),
        _text("oldwithold", "Root certificate to ask for an update of (genm rootCaCert)"),
        _text("newwithnew", "Write the new root certificate here"),
        _text("newwithold", "Write the new root key under the old signature here"),
        _text("oldwithnew", "Write the old root key under the new signature here"),
        _text("crlcert", "Certificate to ask for a CRL for (genm crlStatusList)"),
        _text("oldcrl", "CRL to ask for a newer one of"),
        _text("crlout", "Write the CRL here"),
    ),
    "Client authentication": (
        _text("ref", "Reference of the secret, sent as senderKID"),
        _text("secret", "Source of a shared secret: protect by MAC, even with -cert"),
        _text("cert", "Certificate of the signer of requests, perhaps with its chain; also a source of defaults"),
        _text("own_trusted", "Trust anchors for it"),
        _text("key", "Its private key"),
        _text("keypass", "Password source of -key, -cert and -oldcert"),
        _text("digest", "Hash of signatures and of the MAC's one-way function; by default sha256"),
        _text("mac", "MAC algorithm; by default hmac-sha1"),
        _text("extracerts", "Certificates to send along"),
        _flag("unprotected_requests", "Send requests without protection"),
    ),
    "Credentials format": (
        _text("certform", "PEM (default) or DER of certificates written"),
        _text("crlform", "PEM or DER (default) of CRLs written"),
        _text("keyform", "Form of keys read: found out by itself; ENGINE is refused"),
        _text("otherpass", "Password source of certificates of others"),
        _text("engine", "Refused: engines are gone from OpenSSL; use -provider"),
    ),
    "Provider": (
        Option("provider-path", "text", "Where providers are looked for", False),
        Option("provider", "list", "Provider to load; may be repeated", False),
        Option("provparam", "list", "Refused: set the parameter in the configuration file of OpenSSL", False),
        Option("propquery", "text", "Property query for algorithms", False),
    ),
    "Random state": (
        Option("rand", "text", "Files to seed the random generator with, with colons", False),
        Option("writerand", "text", "Write random data here", False),
    ),
    "TLS connection": (
        _flag("tls_used", "Use TLS; also by https:// in -server"),
        _text("tls_cert", "Our certificate for TLS, perhaps with its chain"),
        _text("tls_key", "Its private key"),
        _text("tls_keypass", "Their password source"),
        _text("tls_extra", "Certificates to send along in TLS"),
        _text("tls_trusted", "Trust anchors for the server in TLS; without, nobody knows who the server is"),
        _text("tls_host", "Name or address that the TLS certificate must carry; by default that of -server"),
    ),
    "Client-side debugging": (
        _flag("batch", "Never ask for a password"),
        _number("repeat", "How many times to run the transaction; by default 1", "positive"),
        _text("reqin", "Send the messages in these files instead of those made here"),
        _flag("reqin_new_tid", "Give them a fresh transactionID"),
        _text("reqout", "Write the messages made here to these files"),
        _text("reqout_only", "Write the first message made here to this file, and end"),
        _text("rspin", "Take the answers in these files instead of asking the server"),
        _text("rspout", "Write the answers to these files"),
    ),
    "Mock server (not here: opensslcmp serve is a server)": tuple(
        Option(name, "mock", "")
        for name in [
            "use_mock_srv",
            "port",
            "max_msgs",
            "srv_ref",
            "srv_secret",
            "srv_cert",
            "srv_key",
            "srv_keypass",
            "srv_trusted",
            "srv_untrusted",
            "ref_cert",
            "rsp_cert",
            "rsp_key",
            "rsp_keypass",
            "rsp_crl",
            "rsp_extracerts",
            "rsp_capubs",
            "rsp_newwithnew",
            "rsp_newwithold",
            "rsp_oldwithnew",
            "poll_count",
            "check_after",
            "grant_implicitconf",
            "pkistatus",
            "failure",
            "failurebits",
            "statusstring",
            "send_error",
            "send_unprotected",
            "send_unprot_err",
            "accept_unprotected",
            "accept_unprot_err",
            "accept_raverified",
        ]
    ),
    "Validation": (
        Option("policy", "list", "Acceptable certificate policy; may be repeated"),
        _text("purpose", "Purpose that signers must serve, such as sslserver or any"),
        _text("verify_name", "Set of verification parameters to begin with"),
        _number("verify_depth", "How many intermediate certificates a path may have", "number"),
        _number("auth_level", "Security level of keys and signatures, 0 to 5", "number"),
        _number("attime", "Time to verify for, in seconds since the epoch", "number"),
        _text("verify_hostname", "Name that the new certificate must carry (with -out_trusted)"),
        _text("verify_email", "E-mail address that it must carry"),
        _text("verify_ip", "IP address that it must carry"),
        *(_flag(name, f"X509_V_FLAG of this name ({name})") for name in FLAGS),
        _flag("issuer_checks", "Without effect"),
    ),
}
"""Name of a group -> its options."""

OPTIONS: dict[str, Option] = {option.name: option for group in GROUPS.values() for option in group}
"""Name of an option -> the option."""

_SHOWN = {"flag": "", "count": " NUMBER", "number": " NUMBER", "positive": " NUMBER"}


def usage() -> str:
    """The help, in groups."""
    lines = ["Usage: opensslcmp cmp [options]", "", "The client of openssl cmp. Options, with one dash or two:"]
    for title, options in GROUPS.items():
        if title:
            lines += ["", f"{title} options:"]
        if options[0].kind == "mock":
            lines.append("  " + " ".join(f"-{option.name}" for option in options))
            continue
        for option in options:
            head = f" -{option.name}{_SHOWN.get(option.kind, ' VALUE')}"
            lines.append(f"{head:<23} {option.help}")
    return "\n".join(lines) + "\n"
