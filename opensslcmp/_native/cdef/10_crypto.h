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
