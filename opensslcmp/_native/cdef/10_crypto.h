/* OpenSSL_version(3), CRYPTO_free, ERR_get_error(3) */
static const int OPENSSLCMP_LEVEL;
static const long OPENSSL_VERSION_NUMBER;
const char *OpenSSL_version(int);
unsigned long OpenSSL_version_num(void);

void ERR_clear_error(void);
unsigned long ERR_get_error_all(const char **, int *, const char **, const char **, int *);
unsigned long ERR_peek_error(void);
const char *ERR_lib_error_string(unsigned long);
const char *ERR_reason_error_string(unsigned long);
void ERR_error_string_n(unsigned long, char *, size_t);
void opensslcmp_free(void *);

/* d2i_X509(3), X509_dup(3): decode and encode; what others hand us crosses as DER. */
X509 *d2i_X509(X509 **, const unsigned char **, long);
int i2d_X509(const X509 *, unsigned char **);
void X509_free(X509 *);
X509_CRL *d2i_X509_CRL(X509_CRL **, const unsigned char **, long);
int i2d_X509_CRL(const X509_CRL *, unsigned char **);
void X509_CRL_free(X509_CRL *);
X509_REQ *d2i_X509_REQ(X509_REQ **, const unsigned char **, long);
int i2d_X509_REQ(const X509_REQ *, unsigned char **);
void X509_REQ_free(X509_REQ *);
X509_NAME *d2i_X509_NAME(X509_NAME **, const unsigned char **, long);
int i2d_X509_NAME(const X509_NAME *, unsigned char **);
void X509_NAME_free(X509_NAME *);
X509_PUBKEY *d2i_X509_PUBKEY(X509_PUBKEY **, const unsigned char **, long);
int i2d_X509_PUBKEY(const X509_PUBKEY *, unsigned char **);
void X509_PUBKEY_free(X509_PUBKEY *);
X509_ALGOR *d2i_X509_ALGOR(X509_ALGOR **, const unsigned char **, long);
int i2d_X509_ALGOR(const X509_ALGOR *, unsigned char **);
void X509_ALGOR_free(X509_ALGOR *);
X509_EXTENSION *d2i_X509_EXTENSION(X509_EXTENSION **, const unsigned char **, long);
int i2d_X509_EXTENSION(const X509_EXTENSION *, unsigned char **);
void X509_EXTENSION_free(X509_EXTENSION *);
GENERAL_NAME *d2i_GENERAL_NAME(GENERAL_NAME **, const unsigned char **, long);
int i2d_GENERAL_NAME(const GENERAL_NAME *, unsigned char **);
void GENERAL_NAME_free(GENERAL_NAME *);
GENERAL_NAMES *d2i_GENERAL_NAMES(GENERAL_NAMES **, const unsigned char **, long);
int i2d_GENERAL_NAMES(const GENERAL_NAMES *, unsigned char **);
void GENERAL_NAMES_free(GENERAL_NAMES *);
DIST_POINT_NAME *d2i_DIST_POINT_NAME(DIST_POINT_NAME **, const unsigned char **, long);
int i2d_DIST_POINT_NAME(const DIST_POINT_NAME *, unsigned char **);
void DIST_POINT_NAME_free(DIST_POINT_NAME *);
POLICYINFO *d2i_POLICYINFO(POLICYINFO **, const unsigned char **, long);
int i2d_POLICYINFO(const POLICYINFO *, unsigned char **);
void POLICYINFO_free(POLICYINFO *);
ASN1_OBJECT *d2i_ASN1_OBJECT(ASN1_OBJECT **, const unsigned char **, long);
int i2d_ASN1_OBJECT(const ASN1_OBJECT *, unsigned char **);
void ASN1_OBJECT_free(ASN1_OBJECT *);
ASN1_TYPE *d2i_ASN1_TYPE(ASN1_TYPE **, const unsigned char **, long);
int i2d_ASN1_TYPE(const ASN1_TYPE *, unsigned char **);
void ASN1_TYPE_free(ASN1_TYPE *);
ASN1_INTEGER *d2i_ASN1_INTEGER(ASN1_INTEGER **, const unsigned char **, long);
int i2d_ASN1_INTEGER(const ASN1_INTEGER *, unsigned char **);
void ASN1_INTEGER_free(ASN1_INTEGER *);
ASN1_OCTET_STRING *d2i_ASN1_OCTET_STRING(ASN1_OCTET_STRING **, const unsigned char **, long);
int i2d_ASN1_OCTET_STRING(const ASN1_OCTET_STRING *, unsigned char **);
void ASN1_OCTET_STRING_free(ASN1_OCTET_STRING *);
ASN1_UTF8STRING *d2i_ASN1_UTF8STRING(ASN1_UTF8STRING **, const unsigned char **, long);
int i2d_ASN1_UTF8STRING(const ASN1_UTF8STRING *, unsigned char **);
void ASN1_UTF8STRING_free(ASN1_UTF8STRING *);
ASN1_TIME *d2i_ASN1_TIME(ASN1_TIME **, const unsigned char **, long);
int i2d_ASN1_TIME(const ASN1_TIME *, unsigned char **);
void ASN1_TIME_free(ASN1_TIME *);
X509_EXTENSIONS *d2i_X509_EXTENSIONS(X509_EXTENSIONS **, const unsigned char **, long);
int i2d_X509_EXTENSIONS(const X509_EXTENSIONS *, unsigned char **);
ASN1_VALUE *ASN1_item_d2i_ex(ASN1_VALUE **, const unsigned char **, long, const ASN1_ITEM *, OSSL_LIB_CTX *, const char *);
int ASN1_item_i2d(const ASN1_VALUE *, unsigned char **, const ASN1_ITEM *);

/* ASN1_STRING_length(3), ASN1_INTEGER_get_int64(3), OBJ_nid2obj(3) */
ASN1_OCTET_STRING *ASN1_OCTET_STRING_new(void);
int ASN1_OCTET_STRING_set(ASN1_OCTET_STRING *, const unsigned char *, int);
ASN1_UTF8STRING *ASN1_UTF8STRING_new(void);
int ASN1_STRING_set(ASN1_STRING *, const void *, int);
const unsigned char *ASN1_STRING_get0_data(const ASN1_STRING *);
int ASN1_STRING_length(const ASN1_STRING *);
void ASN1_STRING_free(ASN1_STRING *);
ASN1_INTEGER *ASN1_INTEGER_new(void);
int ASN1_INTEGER_set_int64(ASN1_INTEGER *, int64_t);
int ASN1_INTEGER_get_int64(int64_t *, const ASN1_INTEGER *);
ASN1_OBJECT *OBJ_txt2obj(const char *, int);
int OBJ_obj2txt(char *, int, const ASN1_OBJECT *, int);
int OBJ_txt2nid(const char *);
ASN1_OBJECT *OBJ_nid2obj(int);
int OBJ_obj2nid(const ASN1_OBJECT *);
const char *OBJ_nid2sn(int);
const char *OBJ_nid2ln(int);
static const int NID_undef;

/* X509_new(3), X509_get_subject_name(3), X509_check_private_key(3) */
int X509_up_ref(X509 *);
X509 *X509_dup(const X509 *);
int X509_cmp(const X509 *, const X509 *);
int X509_check_purpose(X509 *, int, int);
int X509_check_private_key(const X509 *, const EVP_PKEY *);
const X509_NAME *X509_get_subject_name(const X509 *);
const X509_NAME *X509_get_issuer_name(const X509 *);
const ASN1_INTEGER *X509_get0_serialNumber(const X509 *);
EVP_PKEY *X509_get_pubkey(X509 *);
EVP_PKEY *X509_get0_pubkey(const X509 *);
X509_NAME *X509_NAME_dup(const X509_NAME *);
int X509_NAME_cmp(const X509_NAME *, const X509_NAME *);
X509_REQ *X509_REQ_dup(const X509_REQ *);

/* EVP_PKEY_new(3), d2i_PrivateKey(3), d2i_PUBKEY_ex(3), EVP_DigestInit(3) */
void EVP_PKEY_free(EVP_PKEY *);
int EVP_PKEY_up_ref(EVP_PKEY *);
int EVP_PKEY_eq(const EVP_PKEY *, const EVP_PKEY *);
EVP_PKEY *d2i_AutoPrivateKey_ex(EVP_PKEY **, const unsigned char **, long, OSSL_LIB_CTX *, const char *);
EVP_PKEY *d2i_AutoPrivateKey(EVP_PKEY **, const unsigned char **, long);
int i2d_PrivateKey(const EVP_PKEY *, unsigned char **);
EVP_PKEY *d2i_PUBKEY(EVP_PKEY **, const unsigned char **, long);
int i2d_PUBKEY(const EVP_PKEY *, unsigned char **);
const EVP_MD *EVP_get_digestbyname(const char *);

/* X509_STORE_new(3), X509_STORE_add_cert(3), X509_VERIFY_PARAM_set_flags(3) */
X509_STORE *X509_STORE_new(void);
void X509_STORE_free(X509_STORE *);
int X509_STORE_up_ref(X509_STORE *);
int X509_STORE_add_cert(X509_STORE *, X509 *);
int X509_STORE_add_crl(X509_STORE *, X509_CRL *);
int X509_STORE_set_flags(X509_STORE *, unsigned long);
X509_VERIFY_PARAM *X509_STORE_get0_param(const X509_STORE *);
void X509_VERIFY_PARAM_set_time(X509_VERIFY_PARAM *, time_t);
static const unsigned long X509_V_FLAG_CRL_CHECK;
static const unsigned long X509_V_FLAG_CRL_CHECK_ALL;
static const unsigned long X509_V_FLAG_PARTIAL_CHAIN;
static const unsigned long X509_V_FLAG_NO_CHECK_TIME;

/* DEFINE_STACK_OF(3): the typed names are macros */
int OPENSSL_sk_num(const OPENSSL_STACK *);
void *OPENSSL_sk_value(const OPENSSL_STACK *, int);
int OPENSSL_sk_push(OPENSSL_STACK *, const void *);
OPENSSL_STACK *OPENSSL_sk_new_null(void);
void OPENSSL_sk_free(OPENSSL_STACK *);
void OPENSSL_sk_pop_free(OPENSSL_STACK *, void (*)(void *));
struct stack_st_X509 *sk_X509_new_null(void);
int sk_X509_num(const struct stack_st_X509 *);
X509 *sk_X509_value(const struct stack_st_X509 *, int);
int sk_X509_push(struct stack_st_X509 *, X509 *);
struct stack_st_X509 *X509_chain_up_ref(struct stack_st_X509 *);
void opensslcmp_certificates_free(struct stack_st_X509 *);
struct stack_st_X509 *opensslcmp_certificates_d2i(const unsigned char *, long);
long opensslcmp_certificates_i2d(const struct stack_st_X509 *, unsigned char **);
int opensslcmp_store_add(X509_STORE *, const struct stack_st_X509 *);
void opensslcmp_extensions_free(X509_EXTENSIONS *);

/* BIO_new(3), BIO_s_mem(3) */
BIO *BIO_new(const BIO_METHOD *);
const BIO_METHOD *BIO_s_mem(void);
BIO *BIO_new_mem_buf(const void *, int);
int BIO_free(BIO *);
void BIO_free_all(BIO *);
int BIO_read(BIO *, void *, int);
int BIO_write(BIO *, const void *, int);

/* OSSL_LIB_CTX(3), OSSL_PROVIDER(3) */
OSSL_LIB_CTX *OSSL_LIB_CTX_new(void);
void OSSL_LIB_CTX_free(OSSL_LIB_CTX *);
