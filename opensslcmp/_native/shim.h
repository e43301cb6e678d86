/* What differs between OpenSSL versions, and nothing else: the one file that compares them.
 *
 * A function that an older library lacks is defined here under its own name and fails with ERR_R_UNSUPPORTED, so that
 * `lib` has one shape on every version. OPENSSLCMP_LEVEL is the feature level of the headers compiled against. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/buffer.h>
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
