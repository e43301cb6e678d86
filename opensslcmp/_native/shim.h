/* What differs between OpenSSL versions, and nothing else: the one file that compares them.
 *
 * A function that an older library lacks is defined here under its own name and fails with ERR_R_UNSUPPORTED, so that
 * `lib` has one shape on every version. OPENSSLCMP_LEVEL is the feature level of the headers compiled against. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/asn1.h>
#include <openssl/asn1t.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/buffer.h>
#include <openssl/cms.h>
#include <openssl/conf.h>
#include <openssl/cmp.h>
#include <openssl/cmp_util.h>
#include <openssl/crmf.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/http.h>
#include <openssl/kdf.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/store.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <string.h>

#if OPENSSL_VERSION_NUMBER >= 0x30500000L
# define OPENSSLCMP_LEVEL 35
#elif OPENSSL_VERSION_NUMBER >= 0x30400000L
# define OPENSSLCMP_LEVEL 34
#elif OPENSSL_VERSION_NUMBER >= 0x30300000L
# define OPENSSLCMP_LEVEL 33
#elif OPENSSL_VERSION_NUMBER >= 0x30200000L
# define OPENSSLCMP_LEVEL 32
#else
# define OPENSSLCMP_LEVEL 30
#endif

/* Constants */
#ifndef OSSL_CMP_PVNO_2
# define OSSL_CMP_PVNO_2 2
#endif
#ifndef OSSL_CMP_PVNO_3
# define OSSL_CMP_PVNO_3 3
#endif
#ifndef OSSL_CMP_PKISTATUS_rejected_by_client
# define OSSL_CMP_PKISTATUS_rejected_by_client -5
#endif
#ifndef OSSL_CMP_PKISTATUS_checking_response
# define OSSL_CMP_PKISTATUS_checking_response -4
#endif
#ifndef OSSL_CMP_OPT_USE_TLS
# define OSSL_CMP_OPT_USE_TLS 13
#endif
#ifndef OSSL_CMP_OPT_NO_CACHE_EXTRACERTS
# define OSSL_CMP_OPT_NO_CACHE_EXTRACERTS 37
#endif
#ifndef OSSL_CMP_GENM
# define OSSL_CMP_GENM 21
#endif
#ifndef OSSL_CMP_ERROR
# define OSSL_CMP_ERROR 23
#endif
#ifndef OSSL_HTTP_DEFAULT_MAX_RESP_HDR_LINES
# define OSSL_HTTP_DEFAULT_MAX_RESP_HDR_LINES 256
#endif

/* Types */
#if OPENSSLCMP_LEVEL < 32
# define OSSL_CMP_CTX_set0_trusted OSSL_CMP_CTX_set0_trustedStore
# define OSSL_CMP_CTX_get0_trusted OSSL_CMP_CTX_get0_trustedStore
#endif
#if OPENSSLCMP_LEVEL < 33
typedef int (*OSSL_CMP_SRV_delayed_delivery_cb_t)(OSSL_CMP_SRV_CTX *, const OSSL_CMP_MSG *);
typedef int (*OSSL_CMP_SRV_clean_transaction_cb_t)(OSSL_CMP_SRV_CTX *, const ASN1_OCTET_STRING *);
#endif
#if OPENSSLCMP_LEVEL < 34
typedef struct ossl_cmp_crlstatus_st OSSL_CMP_CRLSTATUS;
STACK_OF(OSSL_CMP_CRLSTATUS);
typedef OSSL_CRMF_ATTRIBUTETYPEANDVALUE OSSL_CMP_ATAV;
typedef STACK_OF(OSSL_CRMF_ATTRIBUTETYPEANDVALUE) OSSL_CMP_ATAVS;
# define OSSL_CMP_ATAV_free OSSL_CRMF_ATTRIBUTETYPEANDVALUE_free
#endif
#if OPENSSLCMP_LEVEL < 35
typedef struct ossl_crmf_encryptedkey_st OSSL_CRMF_ENCRYPTEDKEY;
typedef struct CMS_EnvelopedData_st CMS_EnvelopedData; /* C11 lets a newer cms.h say the same */
#endif

/* Functions */
#define OPENSSLCMP_LACKS(type, name, parameters, failure) \
    static type name parameters { ERR_raise(ERR_LIB_CMP, ERR_R_UNSUPPORTED); return failure; }
#define OPENSSLCMP_LACKS_VOID(name, parameters) \
    static void name parameters { ERR_raise(ERR_LIB_CMP, ERR_R_UNSUPPORTED); }

#if OPENSSLCMP_LEVEL < 32 /* since OpenSSL 3.2 */
OPENSSLCMP_LACKS(OSSL_CMP_ITAV *, OSSL_CMP_ITAV_new_caCerts, (const STACK_OF(X509) *caCerts), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_ITAV_get0_caCerts, (const OSSL_CMP_ITAV *itav, STACK_OF(X509) **out), 0)
OPENSSLCMP_LACKS(OSSL_CMP_ITAV *, OSSL_CMP_ITAV_new_rootCaCert, (const X509 *rootCaCert), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_ITAV_get0_rootCaCert, (const OSSL_CMP_ITAV *itav, X509 **out), 0)
OPENSSLCMP_LACKS(OSSL_CMP_ITAV *, OSSL_CMP_ITAV_new_rootCaKeyUpdate, (const X509 *newWithNew, const X509 *newWithOld, const X509 *oldWithNew), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_ITAV_get0_rootCaKeyUpdate, (const OSSL_CMP_ITAV *itav, X509 **newWithNew, X509 **newWithOld, X509 **oldWithNew), 0)
OPENSSLCMP_LACKS(OSSL_LIB_CTX *, OSSL_CMP_CTX_get0_libctx, (const OSSL_CMP_CTX *ctx), NULL)
OPENSSLCMP_LACKS(const char *, OSSL_CMP_CTX_get0_propq, (const OSSL_CMP_CTX *ctx), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_CTX_set1_serialNumber, (OSSL_CMP_CTX *ctx, const ASN1_INTEGER *sn), 0)
OPENSSLCMP_LACKS(X509 *, OSSL_CMP_CTX_get0_validatedSrvCert, (const OSSL_CMP_CTX *ctx), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_get1_caCerts, (OSSL_CMP_CTX *ctx, STACK_OF(X509) **out), 0)
OPENSSLCMP_LACKS(int, OSSL_CMP_get1_rootCaKeyUpdate, (OSSL_CMP_CTX *ctx, const X509 *oldWithOld, X509 **newWithNew, X509 **newWithOld, X509 **oldWithNew), 0)
OPENSSLCMP_LACKS(X509_PUBKEY *, OSSL_CRMF_CERTTEMPLATE_get0_publicKey, (const OSSL_CRMF_CERTTEMPLATE *tmpl), NULL)
#endif

#if OPENSSLCMP_LEVEL < 33 /* since OpenSSL 3.3 */
OPENSSLCMP_LACKS(OSSL_CMP_ITAV *, OSSL_CMP_ITAV_new0_certProfile, (STACK_OF(ASN1_UTF8STRING) *certProfile), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_ITAV_get0_certProfile, (const OSSL_CMP_ITAV *itav, STACK_OF(ASN1_UTF8STRING) **out), 0)
OPENSSLCMP_LACKS(STACK_OF(OSSL_CMP_ITAV) *, OSSL_CMP_CTX_get0_geninfo_ITAVs, (const OSSL_CMP_CTX *ctx), NULL)
OPENSSLCMP_LACKS(STACK_OF(OSSL_CMP_ITAV) *, OSSL_CMP_HDR_get0_geninfo_ITAVs, (const OSSL_CMP_PKIHEADER *hdr), NULL)
OPENSSLCMP_LACKS(X509_PUBKEY *, OSSL_CMP_MSG_get0_certreq_publickey, (const OSSL_CMP_MSG *msg), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_SRV_CTX_init_trans, (OSSL_CMP_SRV_CTX *srv_ctx, OSSL_CMP_SRV_delayed_delivery_cb_t delay, OSSL_CMP_SRV_clean_transaction_cb_t clean), 0)
OPENSSLCMP_LACKS_VOID(OSSL_HTTP_REQ_CTX_set_max_response_hdr_lines, (OSSL_HTTP_REQ_CTX *rctx, size_t count))
#endif

#if OPENSSLCMP_LEVEL < 34 /* since OpenSSL 3.4 */
OPENSSLCMP_LACKS(OSSL_CMP_CRLSTATUS *, OSSL_CMP_CRLSTATUS_create, (const X509_CRL *crl, const X509 *cert, int only_DN), NULL)
OPENSSLCMP_LACKS(OSSL_CMP_CRLSTATUS *, OSSL_CMP_CRLSTATUS_new1, (const DIST_POINT_NAME *dpn, const GENERAL_NAMES *issuer, const ASN1_TIME *thisUpdate), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_CRLSTATUS_get0, (const OSSL_CMP_CRLSTATUS *crlstatus, DIST_POINT_NAME **dpn, GENERAL_NAMES **issuer, ASN1_TIME **thisUpdate), 0)
OPENSSLCMP_LACKS_VOID(OSSL_CMP_CRLSTATUS_free, (OSSL_CMP_CRLSTATUS *crlstatus))
OPENSSLCMP_LACKS(OSSL_CMP_ITAV *, OSSL_CMP_ITAV_new0_crlStatusList, (STACK_OF(OSSL_CMP_CRLSTATUS) *crlStatusList), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_ITAV_get0_crlStatusList, (const OSSL_CMP_ITAV *itav, STACK_OF(OSSL_CMP_CRLSTATUS) **out), 0)
OPENSSLCMP_LACKS(OSSL_CMP_ITAV *, OSSL_CMP_ITAV_new_crls, (const X509_CRL *crls), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_ITAV_get0_crls, (const OSSL_CMP_ITAV *it, STACK_OF(X509_CRL) **out), 0)
OPENSSLCMP_LACKS(OSSL_CMP_ITAV *, OSSL_CMP_ITAV_new0_certReqTemplate, (OSSL_CRMF_CERTTEMPLATE *certTemplate, OSSL_CMP_ATAVS *keySpec), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_ITAV_get1_certReqTemplate, (const OSSL_CMP_ITAV *itav, OSSL_CRMF_CERTTEMPLATE **certTemplate, OSSL_CMP_ATAVS **keySpec), 0)
OPENSSLCMP_LACKS(OSSL_CMP_ATAV *, OSSL_CMP_ATAV_create, (ASN1_OBJECT *type, ASN1_TYPE *value), NULL)
OPENSSLCMP_LACKS_VOID(OSSL_CMP_ATAV_set0, (OSSL_CMP_ATAV *itav, ASN1_OBJECT *type, ASN1_TYPE *value))
OPENSSLCMP_LACKS(ASN1_OBJECT *, OSSL_CMP_ATAV_get0_type, (const OSSL_CMP_ATAV *itav), NULL)
OPENSSLCMP_LACKS(ASN1_TYPE *, OSSL_CMP_ATAV_get0_value, (const OSSL_CMP_ATAV *itav), NULL)
OPENSSLCMP_LACKS(OSSL_CMP_ATAV *, OSSL_CMP_ATAV_new_algId, (const X509_ALGOR *alg), NULL)
OPENSSLCMP_LACKS(X509_ALGOR *, OSSL_CMP_ATAV_get0_algId, (const OSSL_CMP_ATAV *atav), NULL)
OPENSSLCMP_LACKS(OSSL_CMP_ATAV *, OSSL_CMP_ATAV_new_rsaKeyLen, (int len), NULL)
OPENSSLCMP_LACKS(int, OSSL_CMP_ATAV_get_rsaKeyLen, (const OSSL_CMP_ATAV *atav), -1)
OPENSSLCMP_LACKS(int, OSSL_CMP_ATAV_push1, (OSSL_CMP_ATAVS **sk_p, const OSSL_CMP_ATAV *atav), 0)
OPENSSLCMP_LACKS(int, OSSL_CMP_get1_crlUpdate, (OSSL_CMP_CTX *ctx, const X509 *crlcert, const X509_CRL *last_crl, X509_CRL **crl), 0)
OPENSSLCMP_LACKS(int, OSSL_CMP_get1_certReqTemplate, (OSSL_CMP_CTX *ctx, OSSL_CRMF_CERTTEMPLATE **certTemplate, OSSL_CMP_ATAVS **keySpec), 0)
OPENSSLCMP_LACKS_VOID(OSSL_CRMF_ATTRIBUTETYPEANDVALUE_free, (OSSL_CRMF_ATTRIBUTETYPEANDVALUE *v))
OPENSSLCMP_LACKS_VOID(OSSL_CMP_ATAVS_free, (OSSL_CMP_ATAVS *a))
OPENSSLCMP_LACKS(const ASN1_ITEM *, OSSL_CMP_ATAVS_it, (void), NULL)
OPENSSLCMP_LACKS(OSSL_CMP_ATAVS *, OSSL_CMP_ATAVS_new, (void), NULL)
OPENSSLCMP_LACKS(OSSL_CRMF_ATTRIBUTETYPEANDVALUE *, OSSL_CRMF_ATTRIBUTETYPEANDVALUE_dup, (const OSSL_CRMF_ATTRIBUTETYPEANDVALUE *a), NULL)
OPENSSLCMP_LACKS(OSSL_CRMF_CERTTEMPLATE *, OSSL_CRMF_CERTTEMPLATE_dup, (const OSSL_CRMF_CERTTEMPLATE *a), NULL)
OPENSSLCMP_LACKS(OSSL_CMP_ATAVS *, d2i_OSSL_CMP_ATAVS, (OSSL_CMP_ATAVS **a, const unsigned char **b, long c), NULL)
OPENSSLCMP_LACKS(int, i2d_OSSL_CMP_ATAVS, (const OSSL_CMP_ATAVS *a, unsigned char **b), 0)
#endif

#if OPENSSLCMP_LEVEL < 35 /* since OpenSSL 3.5 */
OPENSSLCMP_LACKS(X509 *, OSSL_CRMF_ENCRYPTEDKEY_get1_encCert, (const OSSL_CRMF_ENCRYPTEDKEY *ecert, OSSL_LIB_CTX *libctx, const char *propq, EVP_PKEY *pkey, unsigned int flags), NULL)
OPENSSLCMP_LACKS(unsigned char *, OSSL_CRMF_ENCRYPTEDVALUE_decrypt, (const OSSL_CRMF_ENCRYPTEDVALUE *enc, OSSL_LIB_CTX *libctx, const char *propq, EVP_PKEY *pkey, int *outlen), NULL)
OPENSSLCMP_LACKS(EVP_PKEY *, OSSL_CRMF_ENCRYPTEDKEY_get1_pkey, (const OSSL_CRMF_ENCRYPTEDKEY *encryptedKey, X509_STORE *ts, STACK_OF(X509) *extra, EVP_PKEY *pkey, X509 *cert, ASN1_OCTET_STRING *secret, OSSL_LIB_CTX *libctx, const char *propq), NULL)
OPENSSLCMP_LACKS(int, OSSL_CRMF_MSG_centralkeygen_requested, (const OSSL_CRMF_MSG *crm, const X509_REQ *p10), -1)
OPENSSLCMP_LACKS(OSSL_CRMF_ENCRYPTEDKEY *, OSSL_CRMF_ENCRYPTEDKEY_init_envdata, (CMS_EnvelopedData *envdata), NULL)
OPENSSLCMP_LACKS_VOID(OSSL_CRMF_ENCRYPTEDKEY_free, (OSSL_CRMF_ENCRYPTEDKEY *a))
OPENSSLCMP_LACKS(const ASN1_ITEM *, OSSL_CRMF_ENCRYPTEDKEY_it, (void), NULL)
OPENSSLCMP_LACKS(OSSL_CRMF_ENCRYPTEDKEY *, OSSL_CRMF_ENCRYPTEDKEY_new, (void), NULL)
OPENSSLCMP_LACKS(OSSL_CRMF_ENCRYPTEDKEY *, d2i_OSSL_CRMF_ENCRYPTEDKEY, (OSSL_CRMF_ENCRYPTEDKEY **a, const unsigned char **b, long c), NULL)
OPENSSLCMP_LACKS(int, i2d_OSSL_CRMF_ENCRYPTEDKEY, (const OSSL_CRMF_ENCRYPTEDKEY *a, unsigned char **b), 0)
#endif

/* OSSL_CMP_CTX_get0_libctx(3): what an older library cannot tell is taken to be the default. */
static OSSL_LIB_CTX *opensslcmp_libctx(const OSSL_CMP_CTX *ctx)
{
#if OPENSSLCMP_LEVEL >= 32
    return OSSL_CMP_CTX_get0_libctx(ctx);
#else
    (void)ctx;
    return NULL;
#endif
}
static const char *opensslcmp_propq(const OSSL_CMP_CTX *ctx)
{
#if OPENSSLCMP_LEVEL >= 32
    return OSSL_CMP_CTX_get0_propq(ctx);
#else
    (void)ctx;
    return NULL;
#endif
}
