/* What C calls back into; the bodies are in context/. OSSL_CMP_CTX_new(3), OSSL_CMP_SRV_CTX_new(3) */
OSSL_CMP_MSG *opensslcmp_transfer(OSSL_CMP_CTX *, const OSSL_CMP_MSG *);
int opensslcmp_cert_conf(OSSL_CMP_CTX *, X509 *, int, const char **);

extern "Python" {
    long opensslcmp_on_transfer(OSSL_CMP_CTX *, const unsigned char *, size_t, const unsigned char **);
    int opensslcmp_on_cert_conf(OSSL_CMP_CTX *, const unsigned char *, size_t, const char **);
    int opensslcmp_on_log(const char *, const char *, int, OSSL_CMP_severity, const char *);
    BIO *opensslcmp_on_http(BIO *, void *, int, int);

    OSSL_CMP_PKISI *opensslcmp_on_cert_request(OSSL_CMP_SRV_CTX *, const OSSL_CMP_MSG *, int, const OSSL_CRMF_MSG *,
        const X509_REQ *, X509 **, struct stack_st_X509 **, struct stack_st_X509 **);
    OSSL_CMP_PKISI *opensslcmp_on_revocation(OSSL_CMP_SRV_CTX *, const OSSL_CMP_MSG *, const X509_NAME *, const ASN1_INTEGER *);
    int opensslcmp_on_info(OSSL_CMP_SRV_CTX *, const OSSL_CMP_MSG *, const struct stack_st_OSSL_CMP_ITAV *,
        struct stack_st_OSSL_CMP_ITAV **);
    void opensslcmp_on_error(OSSL_CMP_SRV_CTX *, const OSSL_CMP_MSG *, const OSSL_CMP_PKISI *, const ASN1_INTEGER *,
        const OSSL_CMP_PKIFREETEXT *);
    int opensslcmp_on_confirmation(OSSL_CMP_SRV_CTX *, const OSSL_CMP_MSG *, int, const ASN1_OCTET_STRING *,
        const OSSL_CMP_PKISI *);
    int opensslcmp_on_poll(OSSL_CMP_SRV_CTX *, const OSSL_CMP_MSG *, int, OSSL_CMP_MSG **, int64_t *);
    int opensslcmp_on_delay(OSSL_CMP_SRV_CTX *, const OSSL_CMP_MSG *);
    int opensslcmp_on_clean(OSSL_CMP_SRV_CTX *, const ASN1_OCTET_STRING *);
}
