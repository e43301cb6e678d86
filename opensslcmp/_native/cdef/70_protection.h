/* crossings_protection.h: MACs, signatures, keys, paths, sealed bytes */
static const int OPENSSLCMP_KIND_EC;
static const int OPENSSLCMP_KIND_RSA;
static const int OPENSSLCMP_KIND_PSS;
static const int OPENSSLCMP_KIND_ED25519;
static const int OPENSSLCMP_KIND_ED448;
static const int OPENSSLCMP_KIND_ML_DSA_44;
static const int OPENSSLCMP_KIND_ML_DSA_65;
static const int OPENSSLCMP_KIND_ML_DSA_87;
static const int OPENSSLCMP_KIND_SLH_DSA;

typedef struct { ...; } opensslcmp_library;
opensslcmp_library *opensslcmp_library_new(OSSL_LIB_CTX *, int, const char *, const char *, const char *);
OSSL_LIB_CTX *opensslcmp_library_context(opensslcmp_library *);
void opensslcmp_library_free(opensslcmp_library *);
int opensslcmp_library_has(opensslcmp_library *, const char *);
int opensslcmp_library_works(opensslcmp_library *);
int opensslcmp_library_random(opensslcmp_library *, unsigned char *, size_t);
void opensslcmp_library_providers(opensslcmp_library *, char *, int);
int opensslcmp_digest(opensslcmp_library *, const char *, const unsigned char *, size_t, unsigned char *, unsigned int *);

int opensslcmp_pbm(opensslcmp_library *, const char *, const char *, long long, const unsigned char *, size_t, const unsigned char *, size_t,
                   const unsigned char *, size_t, unsigned char *, size_t *, const unsigned char *, size_t, unsigned char *,
                   size_t *);
int opensslcmp_pbmac1(opensslcmp_library *, const char *, const char *, long long, size_t, const unsigned char *, size_t,
                      const unsigned char *, size_t, const unsigned char *, size_t, unsigned char *, size_t *,
                      const unsigned char *, size_t, unsigned char *, size_t *);
int opensslcmp_verify(opensslcmp_library *, const unsigned char *, size_t, int, int, int, int, const char *, int, const unsigned char *, size_t,
                      const unsigned char *, size_t);
int opensslcmp_sign(opensslcmp_library *, EVP_PKEY *, const char *, int, const unsigned char *, size_t, unsigned char *, size_t *);

int opensslcmp_load(opensslcmp_library *, const char *, const unsigned char *, size_t, const char *, int, EVP_PKEY **, unsigned char **,
                    size_t *);
EVP_PKEY *opensslcmp_generate(opensslcmp_library *, const char *, const char *, unsigned int, const char *);
int opensslcmp_spki(EVP_PKEY *, unsigned char **, size_t *);
int opensslcmp_pem(EVP_PKEY *, const char *, int, unsigned char **, size_t *);
void opensslcmp_free_secret(unsigned char *, size_t);

X509 *opensslcmp_certificate(opensslcmp_library *, const unsigned char *, size_t);
X509_CRL *opensslcmp_crl(opensslcmp_library *, const unsigned char *, size_t);
int opensslcmp_path(opensslcmp_library *, const unsigned char *, const size_t *, int, X509 **, int, X509 **, int, X509_CRL **, int, int,
                    long long, unsigned long, int, int, int *, int *, unsigned char **, size_t *);

int opensslcmp_seal(const unsigned char *, const unsigned char *, size_t, const unsigned char *, size_t, unsigned char *);
int opensslcmp_unseal(const unsigned char *, const unsigned char *, size_t, const unsigned char *, size_t,
                      unsigned char *);

/* EVP_PKEY_get_bits(3), X509_verify_cert_error_string(3) */
int EVP_PKEY_get_bits(const EVP_PKEY *);
int EVP_PKEY_get_size(const EVP_PKEY *);
const char *EVP_PKEY_get0_type_name(const EVP_PKEY *);
const char *X509_verify_cert_error_string(long);
static const int X509_V_ERR_CERT_REVOKED;
static const int X509_V_ERR_EE_KEY_TOO_SMALL;
static const long X509_V_FLAG_X509_STRICT;
