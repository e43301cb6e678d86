/* NCONF_new_ex(3), X509V3_EXT_add_nconf_sk: config(5) and x509v3_config(5) */
typedef struct conf_st CONF;
CONF *opensslcmp_config_load(const char *, long *);
char *CONF_get1_default_config_file(void);
void NCONF_free(CONF *);
char *NCONF_get_string(const CONF *, const char *, const char *);
int opensslcmp_config_has(const CONF *, const char *);
X509_EXTENSIONS *opensslcmp_config_extensions(CONF *, const char *, X509_REQ *);

/* X509_VERIFY_PARAM_set_flags(3), X509_PURPOSE_get_by_sname(3) */
X509_VERIFY_PARAM *X509_VERIFY_PARAM_new(void);
void X509_VERIFY_PARAM_free(X509_VERIFY_PARAM *);
const X509_VERIFY_PARAM *X509_VERIFY_PARAM_lookup(const char *);
int X509_VERIFY_PARAM_set1(X509_VERIFY_PARAM *, const X509_VERIFY_PARAM *);
int X509_VERIFY_PARAM_set_flags(X509_VERIFY_PARAM *, unsigned long);
int X509_VERIFY_PARAM_set_purpose(X509_VERIFY_PARAM *, int);
void X509_VERIFY_PARAM_set_depth(X509_VERIFY_PARAM *, int);
void X509_VERIFY_PARAM_set_auth_level(X509_VERIFY_PARAM *, int);
int X509_VERIFY_PARAM_add0_policy(X509_VERIFY_PARAM *, ASN1_OBJECT *);
int X509_VERIFY_PARAM_set1_host(X509_VERIFY_PARAM *, const char *, size_t);
int X509_VERIFY_PARAM_set1_email(X509_VERIFY_PARAM *, const char *, size_t);
int X509_VERIFY_PARAM_set1_ip_asc(X509_VERIFY_PARAM *, const char *);
int X509_STORE_set1_param(X509_STORE *, const X509_VERIFY_PARAM *);
int opensslcmp_purpose(const char *);
static const unsigned long X509_V_FLAG_IGNORE_CRITICAL;
static const unsigned long X509_V_FLAG_POLICY_CHECK;
static const unsigned long X509_V_FLAG_EXPLICIT_POLICY;
static const unsigned long X509_V_FLAG_INHIBIT_ANY;
static const unsigned long X509_V_FLAG_INHIBIT_MAP;
static const unsigned long X509_V_FLAG_EXTENDED_CRL_SUPPORT;
static const unsigned long X509_V_FLAG_USE_DELTAS;
static const unsigned long X509_V_FLAG_NOTIFY_POLICY;
static const unsigned long X509_V_FLAG_CHECK_SS_SIGNATURE;
static const unsigned long X509_V_FLAG_TRUSTED_FIRST;
static const unsigned long X509_V_FLAG_SUITEB_128_LOS_ONLY;
static const unsigned long X509_V_FLAG_SUITEB_128_LOS;
static const unsigned long X509_V_FLAG_SUITEB_192_LOS;
static const unsigned long X509_V_FLAG_NO_ALT_CHAINS;
static const unsigned long X509_V_FLAG_ALLOW_PROXY_CERTS;

/* RAND_load_file(3) */
int RAND_load_file(const char *, long);
int RAND_write_file(const char *);

/* X509_NAME_add_entry_by_txt(3) */
X509_NAME *X509_NAME_new(void);
int X509_NAME_add_entry_by_txt(X509_NAME *, const char *, int, const unsigned char *, int, int, int);
static const int MBSTRING_UTF8;

/* OSSL_PROVIDER(3) */
typedef struct ossl_provider_st OSSL_PROVIDER;
OSSL_PROVIDER *OSSL_PROVIDER_load(OSSL_LIB_CTX *, const char *);
int OSSL_PROVIDER_set_default_search_path(OSSL_LIB_CTX *, const char *);
