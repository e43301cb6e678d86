/* OSSL_CMP_exec_certreq(3), OSSL_CMP_CTX_setup_CRM(3), OSSL_CMP_MSG_http_perform(3) */
static const int OSSL_CMP_IR;
static const int OSSL_CMP_CR;
static const int OSSL_CMP_P10CR;
static const int OSSL_CMP_KUR;
static const int OSSL_CMP_GENM;
static const int OSSL_CMP_ERROR;

OSSL_CRMF_MSG *OSSL_CMP_CTX_setup_CRM(OSSL_CMP_CTX *, int, int);
X509 *OSSL_CMP_exec_certreq(OSSL_CMP_CTX *, int, const OSSL_CRMF_MSG *);
int OSSL_CMP_try_certreq(OSSL_CMP_CTX *, int, const OSSL_CRMF_MSG *, int *);
int OSSL_CMP_exec_RR_ses(OSSL_CMP_CTX *);
struct stack_st_OSSL_CMP_ITAV *OSSL_CMP_exec_GENM_ses(OSSL_CMP_CTX *);
int OSSL_CMP_get1_caCerts(OSSL_CMP_CTX *, struct stack_st_X509 **);
int OSSL_CMP_get1_rootCaKeyUpdate(OSSL_CMP_CTX *, const X509 *, X509 **, X509 **, X509 **);
int OSSL_CMP_get1_crlUpdate(OSSL_CMP_CTX *, const X509 *, const X509_CRL *, X509_CRL **);
int OSSL_CMP_get1_certReqTemplate(OSSL_CMP_CTX *, OSSL_CRMF_CERTTEMPLATE **, OSSL_CMP_ATAVS **);
