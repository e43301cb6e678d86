/* crossings_cms.h: key transport, key agreement, encapsulation, key derivation, block ciphers */
static const int OPENSSLCMP_KIND_X25519;
static const int OPENSSLCMP_KIND_X448;
static const int OPENSSLCMP_KIND_ML_KEM;

int opensslcmp_transport(opensslcmp_library *, const unsigned char *, size_t, int, int, const char *, const char *, const unsigned char *, size_t,
                         unsigned char *, size_t *);
int opensslcmp_transported(opensslcmp_library *, EVP_PKEY *, const char *, const char *, const unsigned char *, size_t, unsigned char *, size_t);
int opensslcmp_agree(opensslcmp_library *, EVP_PKEY *, const unsigned char *, size_t, int, unsigned char *, size_t *);
int opensslcmp_encapsulate(opensslcmp_library *, const unsigned char *, size_t, int, int, int, unsigned char *, size_t *, unsigned char *, size_t *);
int opensslcmp_decapsulate(opensslcmp_library *, EVP_PKEY *, const unsigned char *, size_t, unsigned char *, size_t *);
int opensslcmp_kdf(opensslcmp_library *, const char *, const char *, int, const unsigned char *, size_t, const unsigned char *, size_t,
                   const unsigned char *, size_t, unsigned char *, size_t);
int opensslcmp_cipher(opensslcmp_library *, const char *, int, int, const unsigned char *, size_t, const unsigned char *, const unsigned char *,
                      size_t, unsigned char *, size_t *);
