"""Object identifiers, dotted, under their names; ``name_of`` gives the name back."""

from __future__ import annotations

__all__ = ["name_of"]

# -- message protection (RFC 9810, 5.1.3; RFC 9481, 6) -------------------------------------------------------------
PASSWORD_BASED_MAC = "1.2.840.113533.7.66.13"
DH_BASED_MAC = "1.2.840.113533.7.66.30"
KEM_BASED_MAC = "1.2.840.113533.7.66.16"
PBMAC1 = "1.2.840.113549.1.5.14"
PBKDF2 = "1.2.840.113549.1.5.12"

# -- infoTypes (RFC 9810, 5.3.19) ----------------------------------------------------------------------------------
IT_CA_PROT_ENC_CERT = "1.3.6.1.5.5.7.4.1"
IT_SIGN_KEY_PAIR_TYPES = "1.3.6.1.5.5.7.4.2"
IT_ENC_KEY_PAIR_TYPES = "1.3.6.1.5.5.7.4.3"
IT_PREFERRED_SYMM_ALG = "1.3.6.1.5.5.7.4.4"
IT_CA_KEY_UPDATE_INFO = "1.3.6.1.5.5.7.4.5"
IT_CURRENT_CRL = "1.3.6.1.5.5.7.4.6"
IT_UNSUPPORTED_OIDS = "1.3.6.1.5.5.7.4.7"
IT_KEY_PAIR_PARAM_REQ = "1.3.6.1.5.5.7.4.10"
IT_KEY_PAIR_PARAM_REP = "1.3.6.1.5.5.7.4.11"
IT_REV_PASSPHRASE = "1.3.6.1.5.5.7.4.12"
IT_IMPLICIT_CONFIRM = "1.3.6.1.5.5.7.4.13"
IT_CONFIRM_WAIT_TIME = "1.3.6.1.5.5.7.4.14"
IT_ORIG_PKI_MESSAGE = "1.3.6.1.5.5.7.4.15"
IT_SUPP_LANG_TAGS = "1.3.6.1.5.5.7.4.16"
IT_CA_CERTS = "1.3.6.1.5.5.7.4.17"
IT_ROOT_CA_KEY_UPDATE = "1.3.6.1.5.5.7.4.18"
IT_CERT_REQ_TEMPLATE = "1.3.6.1.5.5.7.4.19"
IT_ROOT_CA_CERT = "1.3.6.1.5.5.7.4.20"
IT_CERT_PROFILE = "1.3.6.1.5.5.7.4.21"
IT_CRL_STATUS_LIST = "1.3.6.1.5.5.7.4.22"
IT_CRLS = "1.3.6.1.5.5.7.4.23"
IT_KEM_CIPHERTEXT_INFO = "1.3.6.1.5.5.7.4.24"

# -- CRMF controls and regInfo (RFC 4211, 6 and 7; RFC 9810, 5.3.19.16) ---------------------------------------------
REG_CTRL_REG_TOKEN = "1.3.6.1.5.5.7.5.1.1"
REG_CTRL_AUTHENTICATOR = "1.3.6.1.5.5.7.5.1.2"
REG_CTRL_PKI_PUBLICATION_INFO = "1.3.6.1.5.5.7.5.1.3"
REG_CTRL_PKI_ARCHIVE_OPTIONS = "1.3.6.1.5.5.7.5.1.4"
REG_CTRL_OLD_CERT_ID = "1.3.6.1.5.5.7.5.1.5"
REG_CTRL_PROTOCOL_ENCR_KEY = "1.3.6.1.5.5.7.5.1.6"
REG_CTRL_ALT_CERT_TEMPLATE = "1.3.6.1.5.5.7.5.1.7"
REG_CTRL_ALG_ID = "1.3.6.1.5.5.7.5.1.11"
REG_CTRL_RSA_KEY_LEN = "1.3.6.1.5.5.7.5.1.12"
REG_INFO_UTF8_PAIRS = "1.3.6.1.5.5.7.5.2.1"
REG_INFO_CERT_REQ = "1.3.6.1.5.5.7.5.2.2"

_NAMES = {
    PASSWORD_BASED_MAC: "id-PasswordBasedMac",
    DH_BASED_MAC: "id-DHBasedMac",
    KEM_BASED_MAC: "id-KemBasedMac",
    PBMAC1: "id-PBMAC1",
    PBKDF2: "id-PBKDF2",
}


def name_of(oid: str) -> str:
    """The name the standards give, or the dotted form when this module knows none."""
    return _NAMES.get(oid, oid)
