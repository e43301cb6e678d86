"""Object identifiers, dotted, under their names; ``name_of`` gives the name back."""

from __future__ import annotations

__all__ = [
    "AES128_CBC",
    "AES128_WRAP",
    "AES192_CBC",
    "AES192_WRAP",
    "AES256_CBC",
    "AES256_WRAP",
    "CONTENT_TYPE",
    "CT_DATA",
    "CT_ENC_KEY_WITH_ID",
    "CT_ENVELOPED_DATA",
    "CT_KP_A_KEY_PACKAGE",
    "CT_SIGNED_DATA",
    "DH_BASED_MAC",
    "ECDSA_WITH_SHA256",
    "ECDSA_WITH_SHA384",
    "ECDSA_WITH_SHA512",
    "EC_PUBLIC_KEY",
    "ED448",
    "ED25519",
    "EXTENSION_REQUEST",
    "EXT_AUTHORITY_INFO_ACCESS",
    "EXT_AUTHORITY_KEY_IDENTIFIER",
    "EXT_BASIC_CONSTRAINTS",
    "EXT_CERTIFICATE_POLICIES",
    "EXT_CRL_DISTRIBUTION_POINTS",
    "EXT_CRL_NUMBER",
    "EXT_CRL_REASON",
    "EXT_EXTENDED_KEY_USAGE",
    "EXT_INVALIDITY_DATE",
    "EXT_KEY_USAGE",
    "EXT_NAME_CONSTRAINTS",
    "EXT_SUBJECT_ALT_NAME",
    "EXT_SUBJECT_KEY_IDENTIFIER",
    "HKDF_SHA256",
    "HKDF_SHA384",
    "HKDF_SHA512",
    "HMAC_SHA1",
    "HMAC_SHA256",
    "HMAC_SHA384",
    "HMAC_SHA512",
    "IT_CA_CERTS",
    "IT_CA_KEY_UPDATE_INFO",
    "IT_CA_PROT_ENC_CERT",
    "IT_CERT_PROFILE",
    "IT_CERT_REQ_TEMPLATE",
    "IT_CONFIRM_WAIT_TIME",
    "IT_CRLS",
    "IT_CRL_STATUS_LIST",
    "IT_CURRENT_CRL",
    "IT_ENC_KEY_PAIR_TYPES",
    "IT_IMPLICIT_CONFIRM",
    "IT_KEM_CIPHERTEXT_INFO",
    "IT_KEY_PAIR_PARAM_REP",
    "IT_KEY_PAIR_PARAM_REQ",
    "IT_ORIG_PKI_MESSAGE",
    "IT_PREFERRED_SYMM_ALG",
    "IT_REV_PASSPHRASE",
    "IT_ROOT_CA_CERT",
    "IT_ROOT_CA_KEY_UPDATE",
    "IT_SIGN_KEY_PAIR_TYPES",
    "IT_SUPP_LANG_TAGS",
    "IT_UNSUPPORTED_OIDS",
    "KDF2",
    "KDF3",
    "KEM_BASED_MAC",
    "KEM_RSA",
    "KMAC_SHAKE128",
    "KMAC_SHAKE256",
    "KP_CLIENT_AUTH",
    "KP_CM_CA",
    "KP_CM_KGA",
    "KP_CM_RA",
    "KP_SERVER_AUTH",
    "MESSAGE_DIGEST",
    "MGF1",
    "ML_KEM_512",
    "ML_KEM_768",
    "ML_KEM_1024",
    "ORI_KEM",
    "PASSWORD_BASED_MAC",
    "PBKDF2",
    "PBMAC1",
    "PSPECIFIED",
    "PWRI_KEK",
    "REG_CTRL_ALG_ID",
    "REG_CTRL_ALT_CERT_TEMPLATE",
    "REG_CTRL_AUTHENTICATOR",
    "REG_CTRL_OLD_CERT_ID",
    "REG_CTRL_PKI_ARCHIVE_OPTIONS",
    "REG_CTRL_PKI_PUBLICATION_INFO",
    "REG_CTRL_PROTOCOL_ENCR_KEY",
    "REG_CTRL_REG_TOKEN",
    "REG_CTRL_RSA_KEY_LEN",
    "REG_INFO_CERT_REQ",
    "REG_INFO_UTF8_PAIRS",
    "RSAES_OAEP",
    "RSASSA_PSS",
    "RSA_ENCRYPTION",
    "RSA_KEM_SPKI",
    "SHA1",
    "SHA224",
    "SHA256",
    "SHA256_WITH_RSA",
    "SHA384",
    "SHA384_WITH_RSA",
    "SHA512",
    "SHA512_WITH_RSA",
    "SHAKE256_LEN",
    "X448",
    "X25519",
    "name_of",
    "number_of",
]

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

# -- extensions and key purposes (RFC 5280, 4.2; RFC 9810, 4.5; RFC 6402) --------------------------------------------
EXT_SUBJECT_KEY_IDENTIFIER = "2.5.29.14"
EXT_KEY_USAGE = "2.5.29.15"
EXT_SUBJECT_ALT_NAME = "2.5.29.17"
EXT_BASIC_CONSTRAINTS = "2.5.29.19"
EXT_CRL_NUMBER = "2.5.29.20"
EXT_CRL_REASON = "2.5.29.21"
EXT_INVALIDITY_DATE = "2.5.29.24"
EXT_NAME_CONSTRAINTS = "2.5.29.30"
EXT_CRL_DISTRIBUTION_POINTS = "2.5.29.31"
EXT_CERTIFICATE_POLICIES = "2.5.29.32"
EXT_AUTHORITY_KEY_IDENTIFIER = "2.5.29.35"
EXT_EXTENDED_KEY_USAGE = "2.5.29.37"
EXT_AUTHORITY_INFO_ACCESS = "1.3.6.1.5.5.7.1.1"
KP_SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
KP_CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
KP_CM_CA = "1.3.6.1.5.5.7.3.27"
KP_CM_RA = "1.3.6.1.5.5.7.3.28"
KP_CM_KGA = "1.3.6.1.5.5.7.3.32"

# -- attributes of PKCS #9, content types of CMS ---------------------------------------------------------------------
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
CT_DATA = "1.2.840.113549.1.7.1"
CT_SIGNED_DATA = "1.2.840.113549.1.7.2"
CT_ENVELOPED_DATA = "1.2.840.113549.1.7.3"
CT_ENC_KEY_WITH_ID = "1.2.840.113549.1.9.16.1.21"
CT_KP_A_KEY_PACKAGE = "2.16.840.1.101.2.1.2.78.5"

# -- keys, digests, MACs, signatures (RFC 9481) ----------------------------------------------------------------------
RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
RSASSA_PSS = "1.2.840.113549.1.1.10"
SHA256_WITH_RSA = "1.2.840.113549.1.1.11"
SHA384_WITH_RSA = "1.2.840.113549.1.1.12"
SHA512_WITH_RSA = "1.2.840.113549.1.1.13"
EC_PUBLIC_KEY = "1.2.840.10045.2.1"
ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
ECDSA_WITH_SHA384 = "1.2.840.10045.4.3.3"
ECDSA_WITH_SHA512 = "1.2.840.10045.4.3.4"
ED25519 = "1.3.101.112"
ED448 = "1.3.101.113"
SHA1 = "1.3.14.3.2.26"
SHA224 = "2.16.840.1.101.3.4.2.4"
SHA256 = "2.16.840.1.101.3.4.2.1"
SHA384 = "2.16.840.1.101.3.4.2.2"
SHA512 = "2.16.840.1.101.3.4.2.3"
HMAC_SHA1 = "1.2.840.113549.2.7"
HMAC_SHA256 = "1.2.840.113549.2.9"
HMAC_SHA384 = "1.2.840.113549.2.10"
HMAC_SHA512 = "1.2.840.113549.2.11"

# -- CMS (RFC 5652; RFC 5753; RFC 8418; RFC 9629; RFC 9690; RFC 9481, 4 and 5) ------------------------------------------
ORI_KEM = "1.2.840.113549.1.9.16.13.3"
PWRI_KEK = "1.2.840.113549.1.9.16.3.9"
RSAES_OAEP = "1.2.840.113549.1.1.7"
KEM_RSA = "1.0.18033.2.2.4"
RSA_KEM_SPKI = "1.2.840.113549.1.9.16.3.14"
ML_KEM_512 = "2.16.840.1.101.3.4.4.1"
ML_KEM_768 = "2.16.840.1.101.3.4.4.2"
ML_KEM_1024 = "2.16.840.1.101.3.4.4.3"
KMAC_SHAKE128 = "2.16.840.1.101.3.4.2.19"
KMAC_SHAKE256 = "2.16.840.1.101.3.4.2.20"
KDF2 = "1.3.133.16.840.9.44.1.1"
KDF3 = "1.3.133.16.840.9.44.1.2"
HKDF_SHA256 = "1.2.840.113549.1.9.16.3.28"
HKDF_SHA384 = "1.2.840.113549.1.9.16.3.29"
HKDF_SHA512 = "1.2.840.113549.1.9.16.3.30"
MGF1 = "1.2.840.113549.1.1.8"
SHAKE256_LEN = "2.16.840.1.101.3.4.2.18"
AES128_CBC = "2.16.840.1.101.3.4.1.2"
AES192_CBC = "2.16.840.1.101.3.4.1.22"
AES256_CBC = "2.16.840.1.101.3.4.1.42"
AES128_WRAP = "2.16.840.1.101.3.4.1.5"
AES192_WRAP = "2.16.840.1.101.3.4.1.25"
AES256_WRAP = "2.16.840.1.101.3.4.1.45"
X25519 = "1.3.101.110"
X448 = "1.3.101.111"
PSPECIFIED = "1.2.840.113549.1.1.9"

_NAMES = {
    PASSWORD_BASED_MAC: "id-PasswordBasedMac",
    DH_BASED_MAC: "id-DHBasedMac",
    KEM_BASED_MAC: "id-KemBasedMac",
    PBMAC1: "id-PBMAC1",
    PBKDF2: "id-PBKDF2",
    IT_CA_PROT_ENC_CERT: "id-it-caProtEncCert",
    IT_SIGN_KEY_PAIR_TYPES: "id-it-signKeyPairTypes",
    IT_ENC_KEY_PAIR_TYPES: "id-it-encKeyPairTypes",
    IT_PREFERRED_SYMM_ALG: "id-it-preferredSymmAlg",
    IT_CA_KEY_UPDATE_INFO: "id-it-caKeyUpdateInfo",
    IT_CURRENT_CRL: "id-it-currentCRL",
    IT_UNSUPPORTED_OIDS: "id-it-unsupportedOIDs",
    IT_KEY_PAIR_PARAM_REQ: "id-it-keyPairParamReq",
    IT_KEY_PAIR_PARAM_REP: "id-it-keyPairParamRep",
    IT_REV_PASSPHRASE: "id-it-revPassphrase",
    IT_IMPLICIT_CONFIRM: "id-it-implicitConfirm",
    IT_CONFIRM_WAIT_TIME: "id-it-confirmWaitTime",
    IT_ORIG_PKI_MESSAGE: "id-it-origPKIMessage",
    IT_SUPP_LANG_TAGS: "id-it-suppLangTags",
    IT_CA_CERTS: "id-it-caCerts",
    IT_ROOT_CA_KEY_UPDATE: "id-it-rootCaKeyUpdate",
    IT_CERT_REQ_TEMPLATE: "id-it-certReqTemplate",
    IT_ROOT_CA_CERT: "id-it-rootCaCert",
    IT_CERT_PROFILE: "id-it-certProfile",
    IT_CRL_STATUS_LIST: "id-it-crlStatusList",
    IT_CRLS: "id-it-crls",
    IT_KEM_CIPHERTEXT_INFO: "id-it-KemCiphertextInfo",
    REG_CTRL_REG_TOKEN: "id-regCtrl-regToken",
    REG_CTRL_AUTHENTICATOR: "id-regCtrl-authenticator",
    REG_CTRL_PKI_PUBLICATION_INFO: "id-regCtrl-pkiPublicationInfo",
    REG_CTRL_PKI_ARCHIVE_OPTIONS: "id-regCtrl-pkiArchiveOptions",
    REG_CTRL_OLD_CERT_ID: "id-regCtrl-oldCertID",
    REG_CTRL_PROTOCOL_ENCR_KEY: "id-regCtrl-protocolEncrKey",
    REG_CTRL_ALT_CERT_TEMPLATE: "id-regCtrl-altCertTemplate",
    REG_CTRL_ALG_ID: "id-regCtrl-algId",
    REG_CTRL_RSA_KEY_LEN: "id-regCtrl-rsaKeyLen",
    REG_INFO_UTF8_PAIRS: "id-regInfo-utf8Pairs",
    REG_INFO_CERT_REQ: "id-regInfo-certReq",
    EXT_SUBJECT_KEY_IDENTIFIER: "subjectKeyIdentifier",
    EXT_KEY_USAGE: "keyUsage",
    EXT_SUBJECT_ALT_NAME: "subjectAltName",
    EXT_BASIC_CONSTRAINTS: "basicConstraints",
    EXT_CRL_NUMBER: "cRLNumber",
    EXT_CRL_REASON: "cRLReason",
    EXT_INVALIDITY_DATE: "invalidityDate",
    EXT_NAME_CONSTRAINTS: "nameConstraints",
    EXT_CRL_DISTRIBUTION_POINTS: "cRLDistributionPoints",
    EXT_CERTIFICATE_POLICIES: "certificatePolicies",
    EXT_AUTHORITY_KEY_IDENTIFIER: "authorityKeyIdentifier",
    EXT_EXTENDED_KEY_USAGE: "extKeyUsage",
    EXT_AUTHORITY_INFO_ACCESS: "authorityInfoAccess",
    KP_SERVER_AUTH: "id-kp-serverAuth",
    KP_CLIENT_AUTH: "id-kp-clientAuth",
    KP_CM_CA: "id-kp-cmcCA",
    KP_CM_RA: "id-kp-cmcRA",
    KP_CM_KGA: "id-kp-cmKGA",
    EXTENSION_REQUEST: "extensionRequest",
    CONTENT_TYPE: "contentType",
    MESSAGE_DIGEST: "messageDigest",
    CT_DATA: "id-data",
    CT_SIGNED_DATA: "id-signedData",
    CT_ENC_KEY_WITH_ID: "id-ct-encKeyWithID",
    CT_ENVELOPED_DATA: "id-envelopedData",
    CT_KP_A_KEY_PACKAGE: "id-ct-KP-aKeyPackage",
    RSA_ENCRYPTION: "rsaEncryption",
    RSASSA_PSS: "id-RSASSA-PSS",
    SHA256_WITH_RSA: "sha256WithRSAEncryption",
    SHA384_WITH_RSA: "sha384WithRSAEncryption",
    SHA512_WITH_RSA: "sha512WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption",
    "1.2.840.113549.1.1.14": "sha224WithRSAEncryption",
    EC_PUBLIC_KEY: "id-ecPublicKey",
    "1.2.840.10045.4.1": "ecdsa-with-SHA1",
    "1.2.840.10045.4.3.1": "ecdsa-with-SHA224",
    ECDSA_WITH_SHA256: "ecdsa-with-SHA256",
    ECDSA_WITH_SHA384: "ecdsa-with-SHA384",
    ECDSA_WITH_SHA512: "ecdsa-with-SHA512",
    "1.3.6.1.5.5.7.6.30": "id-RSASSA-PSS-SHAKE128",
    "1.3.6.1.5.5.7.6.31": "id-RSASSA-PSS-SHAKE256",
    "1.3.6.1.5.5.7.6.32": "id-ecdsa-with-shake128",
    "1.3.6.1.5.5.7.6.33": "id-ecdsa-with-shake256",
    ED25519: "id-Ed25519",
    ED448: "id-Ed448",
    "1.3.101.110": "id-X25519",
    "1.3.101.111": "id-X448",
    "2.16.840.1.101.3.4.3.17": "id-ml-dsa-44",
    "2.16.840.1.101.3.4.3.18": "id-ml-dsa-65",
    "2.16.840.1.101.3.4.3.19": "id-ml-dsa-87",
    **{
        f"2.16.840.1.101.3.4.3.{20 + number}": f"id-slh-dsa-{name}"
        for number, name in enumerate(
            f"{hash_}-{bits}{how}" for hash_ in ("sha2", "shake") for bits in (128, 192, 256) for how in "sf"
        )
    },
    ML_KEM_512: "id-alg-ml-kem-512",
    ML_KEM_768: "id-alg-ml-kem-768",
    ML_KEM_1024: "id-alg-ml-kem-1024",
    "1.3.132.0.33": "secp224r1",
    "1.2.840.10045.3.1.7": "secp256r1",
    "1.3.132.0.34": "secp384r1",
    "1.3.132.0.35": "secp521r1",
    SHA1: "id-sha1",
    SHA224: "id-sha224",
    SHA256: "id-sha256",
    SHA384: "id-sha384",
    SHA512: "id-sha512",
    "2.16.840.1.101.3.4.2.8": "id-sha3-256",
    "2.16.840.1.101.3.4.2.11": "id-shake128",
    "2.16.840.1.101.3.4.2.12": "id-shake256",
    HMAC_SHA1: "id-hmacWithSHA1",
    "1.2.840.113549.2.8": "id-hmacWithSHA224",
    HMAC_SHA256: "id-hmacWithSHA256",
    HMAC_SHA384: "id-hmacWithSHA384",
    HMAC_SHA512: "id-hmacWithSHA512",
    "1.3.6.1.5.5.8.1.2": "hMAC-SHA1",
    KMAC_SHAKE128: "id-KmacWithSHAKE128",
    KMAC_SHAKE256: "id-KmacWithSHAKE256",
    "2.16.840.1.101.3.4.1.2": "id-aes128-CBC",
    "2.16.840.1.101.3.4.1.42": "id-aes256-CBC",
    "2.16.840.1.101.3.4.1.6": "id-aes128-GCM",
    "2.16.840.1.101.3.4.1.46": "id-aes256-GCM",
    "2.16.840.1.101.3.4.1.5": "id-aes128-wrap",
    "2.16.840.1.101.3.4.1.45": "id-aes256-wrap",
    "1.2.840.113549.3.7": "des-ede3-cbc",
    "1.2.840.113549.1.9.16.3.28": "id-alg-hkdf-with-sha256",
    ORI_KEM: "id-ori-kem",
    PWRI_KEK: "id-alg-PWRI-KEK",
    RSAES_OAEP: "id-RSAES-OAEP",
    KEM_RSA: "id-kem-rsa",
    RSA_KEM_SPKI: "id-rsa-kem-spki",
    KDF2: "id-kdf-kdf2",
    KDF3: "id-kdf-kdf3",
    HKDF_SHA384: "id-alg-hkdf-with-sha384",
    HKDF_SHA512: "id-alg-hkdf-with-sha512",
    MGF1: "id-mgf1",
    AES192_CBC: "id-aes192-CBC",
    AES192_WRAP: "id-aes192-wrap",
    SHAKE256_LEN: "id-shake256-len",
    PSPECIFIED: "id-pSpecified",
    **{
        f"1.3.132.1.11.{arc}": f"dhSinglePass-stdDH-sha{bits}kdf-scheme"
        for arc, bits in enumerate((224, 256, 384, 512))
    },
    **{
        f"1.2.840.113549.1.9.16.3.{19 + arc}": f"dhSinglePass-stdDH-hkdf-sha{bits}-scheme"
        for arc, bits in enumerate((256, 384, 512))
    },
}


def name_of(oid: str) -> str:
    """The name the standards give, or the dotted form when this module knows none."""
    return _NAMES.get(oid, oid)


_NUMBERS = {name: oid for oid, name in _NAMES.items()}


def number_of(name: str) -> str | None:
    """The dotted number of what the standards call so; None when it is not known here.

    >>> number_of("id-it-caCerts")
    '1.3.6.1.5.5.7.4.17'
    """
    return _NUMBERS.get(name)
