/* MACs, signatures, keys, paths and sealed bytes: one crossing each.
 *
 * Results: 1 yes, 0 no (it does not verify), -1 libcrypto failed (the error queue says why), -2 refused by a bound or an
 * allow-list before any expensive step. The queue is empty after 1, 0 and -2.
 *
 * OpenSSL 3.0 pays for every fetch by name and for every OSSL_DECODER it builds (60 to 170 us a key). So digests and HMAC
 * are fetched once in the life of the process, the usual public keys are read by EVP_PKEY_fromdata(3) from their fixed
 * DER shapes, and decoded keys are kept in a small table. */
#include <openssl/param_build.h>
#include <openssl/ui.h>

/* --- libraries, and what is fetched once in each -------------------------------------------------------------------- */

static const char *const opensslcmp_md_names[] = {
    "SHA256", "SHA384", "SHA512", "SHA224", "SHA1", "SHA3-224", "SHA3-256", "SHA3-384", "SHA3-512",
    "SHA512-224", "SHA512-256", "SHAKE128", "SHAKE256", "SM3", "MD5", NULL
};

/* Where algorithms come from: an OSSL_LIB_CTX(3) and a property query, and the digests, the HMAC and the public keys that
 * were fetched and decoded with them. No cache is shared between two of these. */
#define OPENSSLCMP_KEYS 512
#define OPENSSLCMP_CURVES 64 /* as many as opensslcmp_key_rows at least */
typedef struct {
    OSSL_LIB_CTX *ctx; /* NULL: the process's own */
    char *propq;       /* NULL: any */
    EVP_MD *mds[sizeof(opensslcmp_md_names) / sizeof(*opensslcmp_md_names)];
    EVP_MAC *hmac;
    EVP_PKEY *curves[OPENSSLCMP_CURVES]; /* by row of opensslcmp_key_rows: keys without a point */
    CRYPTO_RWLOCK *lock; /* of keys */
    struct {
        EVP_PKEY *key;
        unsigned char *spki;
        size_t length;
    } keys[OPENSSLCMP_KEYS]; /* by SubjectPublicKeyInfo: one place each, the newer wins */
} opensslcmp_library;

/* What NULL stands for. */
static opensslcmp_library opensslcmp_default;
static CRYPTO_ONCE opensslcmp_default_once = CRYPTO_ONCE_STATIC_INIT;
static void opensslcmp_default_start(void) { opensslcmp_default.lock = CRYPTO_THREAD_lock_new(); }

static opensslcmp_library *opensslcmp_in(opensslcmp_library *library)
{
    return library == NULL ? &opensslcmp_default : library;
}

/* All but its OSSL_LIB_CTX, which stays for the process's life and is shared by libraries of equal settings (Library): each thread
 * that used one keeps a pointer to it until the thread ends (OPENSSL_thread_stop_ex(3)), and who collects garbage is seldom the
 * thread that did. Freed here, it crashed at exit. */
static void opensslcmp_library_free(opensslcmp_library *library)
{
    if (library == NULL)
        return;
    for (size_t i = 0; i < OPENSSLCMP_KEYS; i++) {
        EVP_PKEY_free(library->keys[i].key);
        OPENSSL_free(library->keys[i].spki);
    }
    for (size_t i = 0; i < sizeof(library->mds) / sizeof(*library->mds); i++)
        EVP_MD_free(library->mds[i]);
    EVP_MAC_free(library->hmac);
    for (size_t i = 0; i < OPENSSLCMP_CURVES; i++)
        EVP_PKEY_free(library->curves[i]);
    CRYPTO_THREAD_lock_free(library->lock);
    OPENSSL_free(library->propq);
    OPENSSL_free(library);
}

/* `shared`, or OSSL_LIB_CTX_new(3) when `isolated`, OSSL_PROVIDER_set_default_search_path(3), OSSL_LIB_CTX_load_config(3); then the
 * property query. NULL: the error queue says why. */
static opensslcmp_library *opensslcmp_library_new(
    OSSL_LIB_CTX *shared, int isolated, const char *path, const char *config, const char *propq)
{
    opensslcmp_library *library = OPENSSL_zalloc(sizeof(*library));
    int ok;

    ERR_clear_error();
    ok = library != NULL && (library->lock = CRYPTO_THREAD_lock_new()) != NULL
        && (propq == NULL || (library->propq = OPENSSL_strdup(propq)) != NULL)
        && (shared != NULL || !isolated || (library->ctx = OSSL_LIB_CTX_new()) != NULL)
        && (shared != NULL || path == NULL || OSSL_PROVIDER_set_default_search_path(library->ctx, path) == 1)
        && (shared != NULL || config == NULL || OSSL_LIB_CTX_load_config(library->ctx, config) == 1);
    if (!ok && library != NULL) {
        OSSL_LIB_CTX_free(library->ctx); /* only this thread knows it */
        opensslcmp_library_free(library);
        return NULL;
    }
    if (ok && shared != NULL)
        library->ctx = shared;
    return library;
}

static OSSL_LIB_CTX *opensslcmp_library_context(opensslcmp_library *library) { return library->ctx; }

static int opensslcmp_library_has(opensslcmp_library *library, const char *provider)
{
    return OSSL_PROVIDER_available(opensslcmp_in(library)->ctx, provider);
}

/* RAND_bytes_ex(3) */
static int opensslcmp_library_random(opensslcmp_library *library, unsigned char *out, size_t length)
{
    ERR_clear_error();
    return RAND_bytes_ex(opensslcmp_in(library)->ctx, out, length, 0) == 1;
}

static int opensslcmp_list_provider(OSSL_PROVIDER *provider, void *argument)
{
    return BIO_printf(argument, "%s\n", OSSL_PROVIDER_get0_name(provider)) > 0;
}

/* The names of the providers that are active, a line each (OSSL_PROVIDER_do_all(3)), cut at `size`. */
static void opensslcmp_library_providers(opensslcmp_library *library, char *out, int size)
{
    BIO *names = BIO_new(BIO_s_mem());
    int length = 0;

    if (names != NULL && OSSL_PROVIDER_do_all(opensslcmp_in(library)->ctx, opensslcmp_list_provider, names) == 1)
        length = BIO_read(names, out, size - 1);
    out[length < 0 ? 0 : length] = 0;
    BIO_free(names);
    ERR_clear_error();
}

static EVP_MD *opensslcmp_md(opensslcmp_library *library, const char *name)
{
    for (int i = 0; opensslcmp_md_names[i] != NULL; i++) {
        if (strcmp(opensslcmp_md_names[i], name) != 0)
            continue;
        EVP_MD *md = __atomic_load_n(&library->mds[i], __ATOMIC_ACQUIRE), *none = NULL;
        if (md == NULL && (md = EVP_MD_fetch(library->ctx, name, library->propq)) != NULL
            && !__atomic_compare_exchange_n(&library->mds[i], &none, md, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            EVP_MD_free(md);
            md = none;
        }
        return md;
    }
    ERR_raise_data(ERR_LIB_EVP, EVP_R_UNSUPPORTED_ALGORITHM, "digest");
    return NULL;
}

static EVP_MAC *opensslcmp_mac(opensslcmp_library *library)
{
    EVP_MAC *mac = __atomic_load_n(&library->hmac, __ATOMIC_ACQUIRE), *none = NULL;
    if (mac == NULL && (mac = EVP_MAC_fetch(library->ctx, "HMAC", library->propq)) != NULL
        && !__atomic_compare_exchange_n(&library->hmac, &none, mac, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        EVP_MAC_free(mac);
        mac = none;
    }
    return mac;
}

/* Whether the library has what every message takes, SHA-256 and HMAC; the error queue tells what it lacks. */
static int opensslcmp_library_works(opensslcmp_library *library)
{
    int ok;
    ERR_clear_error();
    library = opensslcmp_in(library);
    if ((ok = opensslcmp_md(library, "SHA256") != NULL && opensslcmp_mac(library) != NULL))
        ERR_clear_error();
    return ok;
}

/* A digest of data into out (EVP_MAX_MD_SIZE bytes). */
static int opensslcmp_digest(opensslcmp_library *library, const char *name, const unsigned char *data, size_t length,
                             unsigned char *out, unsigned int *out_length)
{
    EVP_MD *md;
    int ok;
    ERR_clear_error();
    md = opensslcmp_md(opensslcmp_in(library), name);
    if ((ok = md != NULL && EVP_Digest(data, length, out, out_length, md, NULL) == 1))
        ERR_clear_error();
    return ok;
}

/* The HMAC of data into out (EVP_MAX_MD_SIZE bytes); with `expected` compared in constant time instead. */
static int opensslcmp_hmac_of(opensslcmp_library *library, const char *digest, const unsigned char *key, size_t key_length, const unsigned char *data,
                              size_t length, unsigned char *out, size_t *out_length, const unsigned char *expected,
                              size_t expected_length)
{
    unsigned char mine[EVP_MAX_MD_SIZE];
    size_t size = 0;
    EVP_MAC *mac = opensslcmp_mac(library);
    EVP_MAC_CTX *ctx = mac == NULL ? NULL : EVP_MAC_CTX_new(mac);
    OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string("digest", (char *)digest, 0), OSSL_PARAM_construct_end(),
                            OSSL_PARAM_construct_end() };
    int result = -1;

    if (library->propq != NULL)
        params[1] = OSSL_PARAM_construct_utf8_string("properties", library->propq, 0);
    if (ctx != NULL && EVP_MAC_init(ctx, key, key_length, params) == 1 && EVP_MAC_update(ctx, data, length) == 1
        && EVP_MAC_final(ctx, mine, &size, sizeof(mine)) == 1) {
        if (expected == NULL) {
            memcpy(out, mine, size);
            *out_length = size;
            result = 1;
        } else {
            result = expected_length == size && CRYPTO_memcmp(mine, expected, size) == 0;
        }
    }
    EVP_MAC_CTX_free(ctx);
    OPENSSL_cleanse(mine, sizeof(mine));
    return result;
}

/* PasswordBasedMac (RFC 9810, 5.1.3.1): owf applied `iterations` times to secret || salt keys the HMAC. All of BASEKEY is the
 * key, as in OSSL_CRMF_pbm_new(3): HMAC takes keys of any length.
 * key has EVP_MAX_MD_SIZE bytes: with *key_length of them given nothing is derived, else they are an answer too. */
static int opensslcmp_pbm(opensslcmp_library *library, const char *owf, const char *mac, long long iterations, const unsigned char *salt,
                          size_t salt_length, const unsigned char *secret, size_t secret_length,
                          const unsigned char *data, size_t length, unsigned char *out, size_t *out_length,
                          const unsigned char *expected, size_t expected_length, unsigned char *key, size_t *key_length)
{
    unsigned int size = 0;
    EVP_MD_CTX *ctx = NULL;
    EVP_MD *md;
    int result = -1, ok = 1;

    ERR_clear_error();
    library = opensslcmp_in(library);
    if (*key_length == 0) {
        if ((md = opensslcmp_md(library, owf)) == NULL || (ctx = EVP_MD_CTX_new()) == NULL)
            return -1;
        ok = EVP_DigestInit_ex2(ctx, md, NULL) && EVP_DigestUpdate(ctx, secret, secret_length)
            && EVP_DigestUpdate(ctx, salt, salt_length) && EVP_DigestFinal_ex(ctx, key, &size);
        while (ok && --iterations > 0)
            ok = EVP_DigestInit_ex2(ctx, NULL, NULL) && EVP_DigestUpdate(ctx, key, size)
                && EVP_DigestFinal_ex(ctx, key, &size);
        EVP_MD_CTX_free(ctx);
        *key_length = size;
    }
    if (ok)
        result = opensslcmp_hmac_of(library, mac, key, *key_length, data, length, out, out_length, expected, expected_length);
    if (result >= 0)
        ERR_clear_error();
    return result;
}

/* EVP_KDF-PBKDF2(7), without SP 800-132's lower bounds: a peer chose salt and count. */
static int opensslcmp_pbkdf2(opensslcmp_library *library, const char *prf, int iterations, const unsigned char *salt,
                             size_t salt_length, const unsigned char *secret, size_t secret_length, unsigned char *key,
                             size_t size)
{
    EVP_KDF *kdf = EVP_KDF_fetch(library->ctx, "PBKDF2", library->propq);
    EVP_KDF_CTX *ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    int no_bounds = 1, ok;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string("pass", (void *)secret, secret_length),
        OSSL_PARAM_construct_octet_string("salt", (void *)salt, salt_length),
        OSSL_PARAM_construct_int("iter", &iterations), OSSL_PARAM_construct_int("pkcs5", &no_bounds),
        OSSL_PARAM_construct_utf8_string("digest", (char *)prf, 0), OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end()
    };

    if (library->propq != NULL)
        params[5] = OSSL_PARAM_construct_utf8_string("properties", library->propq, 0);
    ok = ctx != NULL && EVP_KDF_derive(ctx, key, size, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok;
}

/* PBMAC1 (RFC 8018, 7.1) with PBKDF2 and HMAC; key as for opensslcmp_pbm, of size bytes. */
static int opensslcmp_pbmac1(opensslcmp_library *library, const char *prf, const char *mac, long long iterations, size_t size,
                             const unsigned char *salt, size_t salt_length, const unsigned char *secret,
                             size_t secret_length, const unsigned char *data, size_t length, unsigned char *out,
                             size_t *out_length, const unsigned char *expected, size_t expected_length,
                             unsigned char *key, size_t *key_length)
{
    int result = -1, ok = 1;

    ERR_clear_error();
    library = opensslcmp_in(library);
    if (size > EVP_MAX_MD_SIZE || iterations > INT_MAX)
        return -2;
    if (*key_length == 0) {
        ok = opensslcmp_pbkdf2(library, prf, (int)iterations, salt, salt_length, secret, secret_length, key, size);
        *key_length = size;
    }
    if (ok)
        result = opensslcmp_hmac_of(library, mac, key, *key_length, data, length, out, out_length, expected, expected_length);
    if (result >= 0)
        ERR_clear_error();
    return result;
}

/* --- public keys ---------------------------------------------------------------------------------------------------- */

#define OPENSSLCMP_KIND_EC 1
#define OPENSSLCMP_KIND_RSA 2
#define OPENSSLCMP_KIND_PSS 3
#define OPENSSLCMP_KIND_ED25519 4
#define OPENSSLCMP_KIND_ED448 5
#define OPENSSLCMP_KIND_ML_DSA_44 6
#define OPENSSLCMP_KIND_ML_DSA_65 7
#define OPENSSLCMP_KIND_ML_DSA_87 8
#define OPENSSLCMP_KIND_SLH_DSA 9 /* SHA2-128s, and eleven more in the order of their OIDs */
#define OPENSSLCMP_KIND_X25519 32 /* from here on: keys that do not sign */
#define OPENSSLCMP_KIND_X448 33
#define OPENSSLCMP_KIND_ML_KEM 34 /* 512, and 768 and 1024 */

/* The AlgorithmIdentifiers of the keys we verify with. Curves are named ones only: explicit parameters are in no row. */
#define EC_ALG "\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
#define BRAINPOOL "\x30\x14" EC_ALG "\x06\x09\x2b\x24\x03\x03\x02\x08\x01\x01"
#define ML_DSA "\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03" /* and SLH-DSA */
#define ML_KEM "\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x04"
#define ROW(kind, der, name) { kind, sizeof(der) - 1, (const unsigned char *)(der), name }
static const struct {
    int kind;
    size_t length;
    const unsigned char *der;
    const char *name;
} opensslcmp_key_rows[] = {
    ROW(OPENSSLCMP_KIND_EC, "\x30\x13" EC_ALG "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", "P-256"),
    ROW(OPENSSLCMP_KIND_RSA, "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00", "RSA"),
    ROW(OPENSSLCMP_KIND_EC, "\x30\x10" EC_ALG "\x06\x05\x2b\x81\x04\x00\x22", "P-384"),
    ROW(OPENSSLCMP_KIND_EC, "\x30\x10" EC_ALG "\x06\x05\x2b\x81\x04\x00\x23", "P-521"),
    ROW(OPENSSLCMP_KIND_ED25519, "\x30\x05\x06\x03\x2b\x65\x70", "ED25519"),
    ROW(OPENSSLCMP_KIND_ED448, "\x30\x05\x06\x03\x2b\x65\x71", "ED448"),
    ROW(OPENSSLCMP_KIND_EC, BRAINPOOL "\x07", "brainpoolP256r1"),
    ROW(OPENSSLCMP_KIND_EC, BRAINPOOL "\x0b", "brainpoolP384r1"),
    ROW(OPENSSLCMP_KIND_EC, BRAINPOOL "\x0d", "brainpoolP512r1"),
    ROW(OPENSSLCMP_KIND_ML_DSA_44, ML_DSA "\x11", "ML-DSA-44"),
    ROW(OPENSSLCMP_KIND_ML_DSA_65, ML_DSA "\x12", "ML-DSA-65"),
    ROW(OPENSSLCMP_KIND_ML_DSA_87, ML_DSA "\x13", "ML-DSA-87"),
    ROW(OPENSSLCMP_KIND_EC, "\x30\x10" EC_ALG "\x06\x05\x2b\x81\x04\x00\x21", "P-224"),
    ROW(OPENSSLCMP_KIND_EC, BRAINPOOL "\x05", "brainpoolP224r1"),
    ROW(OPENSSLCMP_KIND_EC, BRAINPOOL "\x06", "brainpoolP224t1"),
    ROW(OPENSSLCMP_KIND_EC, BRAINPOOL "\x08", "brainpoolP256t1"),
    ROW(OPENSSLCMP_KIND_EC, BRAINPOOL "\x09", "brainpoolP320r1"),
    ROW(OPENSSLCMP_KIND_EC, BRAINPOOL "\x0a", "brainpoolP320t1"),
    ROW(OPENSSLCMP_KIND_EC, BRAINPOOL "\x0c", "brainpoolP384t1"),
    ROW(OPENSSLCMP_KIND_EC, BRAINPOOL "\x0e", "brainpoolP512t1"),
    ROW(OPENSSLCMP_KIND_SLH_DSA, ML_DSA "\x14", "SLH-DSA-SHA2-128s"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 1, ML_DSA "\x15", "SLH-DSA-SHA2-128f"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 2, ML_DSA "\x16", "SLH-DSA-SHA2-192s"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 3, ML_DSA "\x17", "SLH-DSA-SHA2-192f"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 4, ML_DSA "\x18", "SLH-DSA-SHA2-256s"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 5, ML_DSA "\x19", "SLH-DSA-SHA2-256f"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 6, ML_DSA "\x1a", "SLH-DSA-SHAKE-128s"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 7, ML_DSA "\x1b", "SLH-DSA-SHAKE-128f"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 8, ML_DSA "\x1c", "SLH-DSA-SHAKE-192s"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 9, ML_DSA "\x1d", "SLH-DSA-SHAKE-192f"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 10, ML_DSA "\x1e", "SLH-DSA-SHAKE-256s"),
    ROW(OPENSSLCMP_KIND_SLH_DSA + 11, ML_DSA "\x1f", "SLH-DSA-SHAKE-256f"),
    ROW(OPENSSLCMP_KIND_X25519, "\x30\x05\x06\x03\x2b\x65\x6e", "X25519"),
    ROW(OPENSSLCMP_KIND_X448, "\x30\x05\x06\x03\x2b\x65\x6f", "X448"),
    ROW(OPENSSLCMP_KIND_ML_KEM, ML_KEM "\x01", "ML-KEM-512"),
    ROW(OPENSSLCMP_KIND_ML_KEM + 1, ML_KEM "\x02", "ML-KEM-768"),
    ROW(OPENSSLCMP_KIND_ML_KEM + 2, ML_KEM "\x03", "ML-KEM-1024"),
};
_Static_assert(sizeof(opensslcmp_key_rows) / sizeof(*opensslcmp_key_rows) <= OPENSSLCMP_CURVES, "a place for each");
#undef ROW
#undef ML_KEM
#undef ML_DSA
#undef BRAINPOOL
#undef EC_ALG

/* Step over one definite-length DER element with this tag: 1, with its content. */
static int opensslcmp_element(const unsigned char **at, const unsigned char *end, unsigned char tag,
                              const unsigned char **content, size_t *length)
{
    const unsigned char *p = *at;
    size_t n, octets;

    if (end - p < 2 || *p++ != tag)
        return 0;
    n = *p++;
    if (n & 0x80) {
        octets = n & 0x7f;
        if (octets == 0 || octets > 3 || (size_t)(end - p) < octets)
            return 0;
        for (n = 0; octets > 0; octets--)
            n = n << 8 | *p++;
    }
    if ((size_t)(end - p) < n)
        return 0;
    *content = p;
    *length = n;
    *at = p + n;
    return 1;
}

/* Split a SubjectPublicKeyInfo: the row of its algorithm (-1: none of ours) and the bits of its key. */
static int opensslcmp_split_spki(const unsigned char *spki, size_t length, int *pss, const unsigned char **key,
                                 size_t *key_length)
{
    static const unsigned char pss_oid[] = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
    const unsigned char *at = spki, *end = spki + length, *algorithm, *inner;
    size_t algorithm_length, inner_length;

    *pss = 0;
    if (!opensslcmp_element(&at, end, 0x30, &algorithm, &algorithm_length) || at != end)
        return -1;
    at = algorithm;
    if (!opensslcmp_element(&at, end, 0x30, &inner, &inner_length))
        return -1;
    algorithm_length = (size_t)(at - algorithm);
    if (!opensslcmp_element(&at, end, 0x03, key, key_length) || at != end || *key_length < 2 || **key != 0)
        return -1;
    /* Said only of a key that is there: who reads it does not ask again. */
    *pss = inner_length >= sizeof(pss_oid) - 1 && memcmp(inner, pss_oid, sizeof(pss_oid) - 1) == 0;
    ++*key;
    --*key_length;
    for (size_t i = 0; i < sizeof(opensslcmp_key_rows) / sizeof(*opensslcmp_key_rows); i++)
        if (opensslcmp_key_rows[i].length == algorithm_length
            && memcmp(opensslcmp_key_rows[i].der, algorithm, algorithm_length) == 0)
            return (int)i;
    return -1;
}

static EVP_PKEY *opensslcmp_fromdata(opensslcmp_library *library, const char *type, int selection, OSSL_PARAM *params)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(library->ctx, type, library->propq);

    if (ctx != NULL && EVP_PKEY_fromdata_init(ctx) == 1)
        EVP_PKEY_fromdata(ctx, &key, selection, params);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* The key of a point on a curve: a copy of a key without one, given the point (EVP_PKEY_dup(3)). Reading the curve by its name
 * each time takes 31 us on OpenSSL 3.0 and 17 on 3.5, this takes 7. A provider that copies no keys reads it by name. */
static EVP_PKEY *opensslcmp_point(opensslcmp_library *library, int row, const unsigned char *point, size_t length)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string("group", (char *)opensslcmp_key_rows[row].name, 0),
        OSSL_PARAM_construct_octet_string("pub", (void *)point, length), OSSL_PARAM_construct_end()
    };
    OSSL_PARAM only_group[] = { params[0], OSSL_PARAM_construct_end() };
    EVP_PKEY *curve = __atomic_load_n(&library->curves[row], __ATOMIC_ACQUIRE), *none = NULL, *key = NULL;

    if (curve == NULL
        && (curve = opensslcmp_fromdata(library, "EC", EVP_PKEY_KEY_PARAMETERS, only_group)) != NULL
        && !__atomic_compare_exchange_n(&library->curves[row], &none, curve, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        EVP_PKEY_free(curve);
        curve = none;
    }
    if (curve != NULL && (key = EVP_PKEY_dup(curve)) != NULL && EVP_PKEY_set1_encoded_public_key(key, point, length) == 1)
        return key;
    EVP_PKEY_free(key);
    ERR_clear_error();
    return opensslcmp_fromdata(library, "EC", EVP_PKEY_PUBLIC_KEY, params);
}

static EVP_PKEY *opensslcmp_rsa(opensslcmp_library *library, const unsigned char *n, size_t n_length, const unsigned char *e, size_t e_length)
{
    BIGNUM *modulus = BN_bin2bn(n, (int)n_length, NULL), *exponent = BN_bin2bn(e, (int)e_length, NULL);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;

    if (modulus != NULL && exponent != NULL && builder != NULL && OSSL_PARAM_BLD_push_BN(builder, "n", modulus)
        && OSSL_PARAM_BLD_push_BN(builder, "e", exponent) && (params = OSSL_PARAM_BLD_to_param(builder)) != NULL)
        key = opensslcmp_fromdata(library, "RSA", EVP_PKEY_PUBLIC_KEY, params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

/* The key of a SubjectPublicKeyInfo, if it fits `kind` and the RSA bounds. NULL with *result -1 (does not decode) or -2. */
static EVP_PKEY *opensslcmp_public_key(opensslcmp_library *library, const unsigned char *spki, size_t length, int kind,
                                       int minimum_bits, int maximum_bits, int *result)
{
    const unsigned char *bits, *at, *end, *n, *e;
    size_t bits_length, n_length, e_length;
    int pss, row = opensslcmp_split_spki(spki, length, &pss, &bits, &bits_length), found;
    EVP_PKEY *key = NULL;

    *result = -2;
    if (row < 0 && !(pss && kind == OPENSSLCMP_KIND_PSS))
        return NULL;
    found = row < 0 ? OPENSSLCMP_KIND_PSS : opensslcmp_key_rows[row].kind;
    if (found != kind && !(found == OPENSSLCMP_KIND_RSA && kind == OPENSSLCMP_KIND_PSS))
        return NULL;
    if (found == OPENSSLCMP_KIND_RSA || found == OPENSSLCMP_KIND_PSS) {
        /* RSAPublicKey; a public exponent beyond 64 bits makes one verification as dear as a signature. */
        at = bits;
        if (!opensslcmp_element(&at, bits + bits_length, 0x30, &n, &n_length) || at != bits + bits_length)
            return NULL;
        at = n;
        end = n + n_length;
        if (!opensslcmp_element(&at, end, 0x02, &n, &n_length) || !opensslcmp_element(&at, end, 0x02, &e, &e_length)
            || at != end || n_length < 2 || e_length < 1 || e_length > 9 || (n[0] | e[0]) & 0x80)
            return NULL;
        if (n[0] == 0) {
            n++;
            n_length--;
        }
        found = (int)n_length * 8;
        for (int first = n[0]; first < 0x80 && found > 0; first = first << 1 | 1)
            found--;
        if (n_length > 4096 || found < minimum_bits || found > maximum_bits)
            return NULL;
    }
    *result = -1;
    if (row < 0) {
        at = spki;
        return d2i_PUBKEY_ex(NULL, &at, (long)length, library->ctx, library->propq);
    }
    switch (opensslcmp_key_rows[row].kind) {
    case OPENSSLCMP_KIND_EC:
        key = opensslcmp_point(library, row, bits, bits_length);
        break;
    case OPENSSLCMP_KIND_RSA:
        key = opensslcmp_rsa(library, n, n_length, e, e_length);
        break;
    default:
        key = EVP_PKEY_new_raw_public_key_ex(library->ctx, opensslcmp_key_rows[row].name, library->propq, bits,
                                             bits_length);
    }
    return key;
}

/* Keys that were decoded lately. */
static unsigned int opensslcmp_place(const unsigned char *spki, size_t length)
{
    unsigned int hash = 2166136261u;
    while (length-- > 0)
        hash = (hash ^ *spki++) * 16777619u;
    return (hash ^ hash >> 16) % OPENSSLCMP_KEYS;
}

static EVP_PKEY *opensslcmp_known_key(opensslcmp_library *library, const unsigned char *spki, size_t length)
{
    unsigned int place = opensslcmp_place(spki, length);
    EVP_PKEY *key = NULL;

    if (!CRYPTO_THREAD_run_once(&opensslcmp_default_once, opensslcmp_default_start) || library->lock == NULL
        || !CRYPTO_THREAD_read_lock(library->lock))
        return NULL;
    if (library->keys[place].length == length && library->keys[place].key != NULL
        && memcmp(library->keys[place].spki, spki, length) == 0 && EVP_PKEY_up_ref(library->keys[place].key))
        key = library->keys[place].key;
    CRYPTO_THREAD_unlock(library->lock);
    return key;
}

static void opensslcmp_keep_key(opensslcmp_library *library, const unsigned char *spki, size_t length, EVP_PKEY *key)
{
    unsigned int place = opensslcmp_place(spki, length);
    unsigned char *copy = OPENSSL_memdup(spki, length), *old_spki;
    EVP_PKEY *old;

    if (copy == NULL || !EVP_PKEY_up_ref(key)) {
        OPENSSL_free(copy);
        return;
    }
    if (library->lock == NULL || !CRYPTO_THREAD_write_lock(library->lock)) {
        OPENSSL_free(copy);
        EVP_PKEY_free(key);
        return;
    }
    old = library->keys[place].key;
    old_spki = library->keys[place].spki;
    library->keys[place].key = key;
    library->keys[place].spki = copy;
    library->keys[place].length = length;
    CRYPTO_THREAD_unlock(library->lock);
    EVP_PKEY_free(old);
    OPENSSL_free(old_spki);
}

/* --- signatures ----------------------------------------------------------------------------------------------------- */

/* RFC 8692: ECDSA over SHAKE128 with 256 bits, SHAKE256 with 512 bits; OpenSSL's defaults are shorter or absent. */
static size_t opensslcmp_xof_length(const char *digest)
{
    return digest == NULL ? 0 : strcmp(digest, "SHAKE128") == 0 ? 32 : strcmp(digest, "SHAKE256") == 0 ? 64 : 0;
}

static int opensslcmp_xof(opensslcmp_library *library, const char *digest, const unsigned char *data, size_t length, unsigned char *out, size_t size)
{
    EVP_MD *md = opensslcmp_md(library, digest);
    EVP_MD_CTX *ctx = md == NULL ? NULL : EVP_MD_CTX_new();
    int ok = ctx != NULL && EVP_DigestInit_ex2(ctx, md, NULL) && EVP_DigestUpdate(ctx, data, length)
        && EVP_DigestFinalXOF(ctx, out, size);
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* RSASSA-PSS with SHAKE128 or SHAKE256 as hash and as mask (RFC 8702, 3.2.1; RFC 8017, 9.1), which OpenSSL does not know: the
 * hash of M' = 8 zeros || hash || salt into h, and DB = maskedDB ^ SHAKE(h) into db, which has `length` bytes. */
static int opensslcmp_pss_hash(opensslcmp_library *library, const char *digest, const unsigned char *hash, const unsigned char *salt, size_t size,
                               unsigned char *h)
{
    unsigned char input[8 + 64 + 64] = { 0 };
    memcpy(input + 8, hash, size);
    memcpy(input + 8 + size, salt, size);
    return opensslcmp_xof(library, digest, input, 8 + 2 * size, h, size);
}

static int opensslcmp_pss_mask(opensslcmp_library *library, const char *digest, const unsigned char *h, size_t size, unsigned char *db, size_t length)
{
    unsigned char mask[2048];
    int ok = length <= sizeof(mask) && opensslcmp_xof(library, digest, h, size, mask, length);
    for (size_t i = 0; ok && i < length; i++)
        db[i] ^= mask[i];
    return ok;
}

#define OPENSSLCMP_MAX_RSA_BYTES 2048

/* EMSA-PSS (RFC 8017, 9.1) around one raw RSA operation. `size` is that of hash and salt. */
static int opensslcmp_pss_shake_sign(opensslcmp_library *library, EVP_PKEY_CTX *raw, int bits, const char *digest, const unsigned char *hash, size_t size,
                                     unsigned char *out, size_t *out_length)
{
    unsigned char block[OPENSSLCMP_MAX_RSA_BYTES] = { 0 }, salt[64];
    size_t whole = ((size_t)bits + 7) / 8, length = ((size_t)bits + 6) / 8, db = length - size - 1;
    unsigned char *em = block + whole - length;
    int ok;

    if (whole > sizeof(block) || length < 2 * size + 2)
        return 0;
    ok = RAND_bytes_ex(library->ctx, salt, size, 0) == 1 && opensslcmp_pss_hash(library, digest, hash, salt, size, em + db);
    em[db - size - 1] = 1;
    memcpy(em + db - size, salt, size);
    ok = ok && opensslcmp_pss_mask(library, digest, em + db, size, em, db);
    em[0] &= 0xff >> (8 * length - ((size_t)bits - 1));
    em[length - 1] = 0xbc;
    return ok && EVP_PKEY_sign_init(raw) == 1 && EVP_PKEY_CTX_set_rsa_padding(raw, RSA_NO_PADDING) == 1
        && EVP_PKEY_sign(raw, out, out_length, block, whole) == 1;
}

/* 1, 0, or -1 when libcrypto fails for another reason than the signature. */
static int opensslcmp_pss_shake_verify(opensslcmp_library *library, EVP_PKEY_CTX *raw, int bits, const char *digest, const unsigned char *hash, size_t size,
                                       const unsigned char *signature, size_t signature_length)
{
    unsigned char block[OPENSSLCMP_MAX_RSA_BYTES], expected[64];
    size_t whole = ((size_t)bits + 7) / 8, length = ((size_t)bits + 6) / 8, db = length - size - 1, i;
    size_t got = sizeof(block);
    unsigned char *em = block + whole - length;

    if (whole > sizeof(block) || length < 2 * size + 2 || EVP_PKEY_verify_recover_init(raw) != 1
        || EVP_PKEY_CTX_set_rsa_padding(raw, RSA_NO_PADDING) != 1)
        return -1;
    if (signature_length != whole || EVP_PKEY_verify_recover(raw, block, &got, signature, signature_length) != 1
        || got != whole || (em != block && block[0] != 0) || em[length - 1] != 0xbc
        || (em[0] & ~(0xff >> (8 * length - ((size_t)bits - 1)))) != 0)
        return 0;
    if (!opensslcmp_pss_mask(library, digest, em + db, size, em, db))
        return -1;
    em[0] &= 0xff >> (8 * length - ((size_t)bits - 1));
    for (i = 0; i < db - size - 1; i++)
        if (em[i] != 0)
            return 0;
    if (em[i] != 1)
        return 0;
    if (!opensslcmp_pss_hash(library, digest, hash, em + db - size, size, expected))
        return -1;
    return CRYPTO_memcmp(expected, em + db, size) == 0;
}

static void opensslcmp_pss_params(OSSL_PARAM *params, int *salt)
{
    params[0] = OSSL_PARAM_construct_utf8_string("pad-mode", "pss", 0);
    params[1] = OSSL_PARAM_construct_int("saltlen", salt);
    params[2] = OSSL_PARAM_construct_end();
}

/* Whether `signature` is one over `data` by the key of `spki`; salt < 0: not RSASSA-PSS, digest NULL: EdDSA, ML-DSA, SLH-DSA. */
static int opensslcmp_verify(opensslcmp_library *library, const unsigned char *spki, size_t spki_length, int kind,
                             int minimum_bits, int maximum_bits, int keep, const char *digest, int salt, const unsigned char *data, size_t length,
                             const unsigned char *signature, size_t signature_length)
{
    OSSL_PARAM params[3];
    unsigned char hash[64];
    size_t xof = opensslcmp_xof_length(digest);
    EVP_MD_CTX *ctx = NULL;
    EVP_PKEY_CTX *raw = NULL;
    EVP_PKEY *key = NULL;
    int result = -1, known = 0;

    ERR_clear_error();
    library = opensslcmp_in(library);
    if (keep && (key = opensslcmp_known_key(library, spki, spki_length)) != NULL) {
        /* The table holds keys that passed the bounds once; kind and bounds may differ in this call. */
        const unsigned char *bits;
        size_t bits_length;
        int pss, row = opensslcmp_split_spki(spki, spki_length, &pss, &bits, &bits_length);
        int found = row < 0 ? OPENSSLCMP_KIND_PSS : opensslcmp_key_rows[row].kind;
        int rsa = found == OPENSSLCMP_KIND_RSA || found == OPENSSLCMP_KIND_PSS;
        if ((found != kind && !(found == OPENSSLCMP_KIND_RSA && kind == OPENSSLCMP_KIND_PSS))
            || (rsa && (EVP_PKEY_get_bits(key) < minimum_bits || EVP_PKEY_get_bits(key) > maximum_bits))) {
            EVP_PKEY_free(key);
            return -2;
        }
        known = 1;
    }
    if (key == NULL
        && (key = opensslcmp_public_key(library, spki, spki_length, kind, minimum_bits, maximum_bits, &result)) == NULL) {
        if (result == -2)
            ERR_clear_error();
        return result;
    }
    if (keep && !known)
        opensslcmp_keep_key(library, spki, spki_length, key);
    if (xof > 0) {
        if (!opensslcmp_xof(library, digest, data, length, hash, xof) || (raw = EVP_PKEY_CTX_new_from_pkey(library->ctx, key, library->propq)) == NULL)
            result = -1;
        else if (salt >= 0)
            result = opensslcmp_pss_shake_verify(library, raw, EVP_PKEY_get_bits(key), digest, hash, xof, signature, signature_length);
        else if (EVP_PKEY_verify_init(raw) == 1)
            result = EVP_PKEY_verify(raw, signature, signature_length, hash, xof) == 1;
    } else if ((ctx = EVP_MD_CTX_new()) != NULL) {
        if (salt >= 0)
            opensslcmp_pss_params(params, &salt);
        if (EVP_DigestVerifyInit_ex(ctx, NULL, digest, library->ctx, library->propq, key, salt >= 0 ? params : NULL) == 1)
            result = EVP_DigestVerify(ctx, signature, signature_length, data, length) == 1;
    }
    EVP_PKEY_CTX_free(raw);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    if (result >= 0)
        ERR_clear_error();
    return result;
}

/* A signature over data into out, whose size is *out_length. */
static int opensslcmp_sign(opensslcmp_library *library, EVP_PKEY *key, const char *digest, int salt, const unsigned char *data, size_t length,
                           unsigned char *out, size_t *out_length)
{
    OSSL_PARAM params[3];
    unsigned char hash[64];
    size_t xof = opensslcmp_xof_length(digest);
    EVP_MD_CTX *ctx = NULL;
    EVP_PKEY_CTX *raw = NULL;
    int ok = 0;

    ERR_clear_error();
    library = opensslcmp_in(library);
    if (xof > 0) {
        ok = opensslcmp_xof(library, digest, data, length, hash, xof) && (raw = EVP_PKEY_CTX_new_from_pkey(library->ctx, key, library->propq)) != NULL
            && (salt >= 0
                ? opensslcmp_pss_shake_sign(library, raw, EVP_PKEY_get_bits(key), digest, hash, xof, out, out_length)
                : EVP_PKEY_sign_init(raw) == 1 && EVP_PKEY_sign(raw, out, out_length, hash, xof) == 1);
    } else if ((ctx = EVP_MD_CTX_new()) != NULL) {
        if (salt >= 0)
            opensslcmp_pss_params(params, &salt);
        ok = EVP_DigestSignInit_ex(ctx, NULL, digest, library->ctx, library->propq, key, salt >= 0 ? params : NULL) == 1
            && EVP_DigestSign(ctx, out, out_length, data, length) == 1;
    }
    EVP_PKEY_CTX_free(raw);
    EVP_MD_CTX_free(ctx);
    if (ok)
        ERR_clear_error();
    return ok ? 1 : -1;
}

/* --- private keys --------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *text;
    int length;
} opensslcmp_password;

/* Without a password: fail, and never ask on a terminal. */
static int opensslcmp_give_password(char *buffer, int size, int writing, void *argument)
{
    opensslcmp_password *password = argument;
    (void)writing;
    if (password->text == NULL || password->length > size)
        return -1;
    memcpy(buffer, password->text, (size_t)password->length);
    return password->length;
}

/* Append the DER of a certificate to a buffer that grows. */
static int opensslcmp_append(X509 *certificate, unsigned char **out, size_t *length)
{
    int size = i2d_X509(certificate, NULL);
    unsigned char *grown, *at;

    if (size <= 0 || (grown = OPENSSL_realloc(*out, *length + (size_t)size)) == NULL)
        return 0;
    *out = grown;
    at = grown + *length;
    *length += (size_t)size;
    return i2d_X509(certificate, &at) == size;
}

/* Everything in a store: its first private key, and its certificates as DER one after the other (OSSL_STORE_load(3)).
 * uri NULL: read `data` (PEM, DER, PKCS#8 encrypted or not, PKCS#12) instead. */
static int opensslcmp_load(opensslcmp_library *library, const char *uri, const unsigned char *data, size_t length, const char *password,
                           int password_length, EVP_PKEY **key, unsigned char **certificates, size_t *certificates_length)
{
    opensslcmp_password given = { password, password_length };
    UI_METHOD *ui = UI_UTIL_wrap_read_pem_callback(opensslcmp_give_password, 0);
    BIO *bio = NULL;
    OSSL_STORE_CTX *store = NULL;
    OSSL_STORE_INFO *info;
    int failed = 1, nothing = 0;

    ERR_clear_error();
    library = opensslcmp_in(library);
    *key = NULL;
    *certificates = NULL;
    *certificates_length = 0;
    if (ui != NULL && uri != NULL)
        store = OSSL_STORE_open_ex(uri, library->ctx, library->propq, ui, &given, NULL, NULL, NULL);
    else if (ui != NULL && length <= INT_MAX && (bio = BIO_new_mem_buf(data, (int)length)) != NULL)
        store = OSSL_STORE_attach(bio, "file", library->ctx, library->propq, ui, &given, NULL, NULL, NULL);
    if (store != NULL) {
        failed = 0;
        while (!failed && !OSSL_STORE_eof(store)) {
            if ((info = OSSL_STORE_load(store)) == NULL) {
                failed = OSSL_STORE_error(store) || ++nothing > 100;
                continue;
            }
            if (OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY && *key == NULL)
                failed = (*key = OSSL_STORE_INFO_get1_PKEY(info)) == NULL;
            else if (OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_CERT)
                failed = !opensslcmp_append(OSSL_STORE_INFO_get0_CERT(info), certificates, certificates_length);
            OSSL_STORE_INFO_free(info);
        }
        OSSL_STORE_close(store);
    }
    BIO_free(bio);
    UI_destroy_method(ui);
    if (*key == NULL && *certificates == NULL)
        return failed ? -1 : 0;
    ERR_clear_error();
    return 1;
}

/* A new key: group for EC, bits for RSA; with a uri (RFC 7512) in the token that it names. */
static EVP_PKEY *opensslcmp_generate(opensslcmp_library *library, const char *type, const char *group, unsigned int bits,
                                     const char *uri)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx;
    OSSL_PARAM params[4] = { OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end(), OSSL_PARAM_construct_end(),
                             OSSL_PARAM_construct_end() }, *next = params;

    ERR_clear_error();
    library = opensslcmp_in(library);
    ctx = EVP_PKEY_CTX_new_from_name(library->ctx, type, uri == NULL ? library->propq : "provider=pkcs11");
    if (group != NULL)
        *next++ = OSSL_PARAM_construct_utf8_string("group", (char *)group, 0);
    else if (bits > 0)
        *next++ = OSSL_PARAM_construct_uint("bits", &bits);
    if (uri != NULL) {
        *next++ = OSSL_PARAM_construct_utf8_string("pkcs11_uri", (char *)uri, 0);
        *next++ = OSSL_PARAM_construct_utf8_string("pkcs11_key_usage", "digitalSignature", 0);
    }
    if (ctx != NULL && EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_CTX_set_params(ctx, params) == 1)
        EVP_PKEY_generate(ctx, &key);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static int opensslcmp_taken(BIO *bio, int ok, unsigned char **out, size_t *length)
{
    char *data;
    long size;

    if (ok && bio != NULL && (size = BIO_get_mem_data(bio, &data)) > 0
        && (*out = OPENSSL_memdup(data, (size_t)size)) != NULL)
        *length = (size_t)size;
    else
        ok = 0;
    BIO_free_all(bio);
    return ok ? 1 : -1;
}

/* The SubjectPublicKeyInfo of a key, in memory for opensslcmp_free. */
static int opensslcmp_spki(EVP_PKEY *key, unsigned char **out, size_t *length)
{
    BIO *bio = BIO_new(BIO_s_mem());
    ERR_clear_error();
    return opensslcmp_taken(bio, bio != NULL && i2d_PUBKEY_bio(bio, key) == 1, out, length);
}

/* PKCS#8 PEM of a key, encrypted (PBES2, AES-256-CBC) when there is a password; in memory for opensslcmp_free_secret. */
static int opensslcmp_pem(EVP_PKEY *key, const char *password, int password_length, unsigned char **out, size_t *length)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    ERR_clear_error();
    return opensslcmp_taken(bio,
                            bio != NULL && PEM_write_bio_PKCS8PrivateKey(bio, key, password == NULL ? NULL : EVP_aes_256_cbc(),
                                                                         password, password_length, NULL, NULL) == 1,
                            out, length);
}

static void opensslcmp_free_secret(unsigned char *pointer, size_t length) { OPENSSL_clear_free(pointer, length); }

/* --- certificates --------------------------------------------------------------------------------------------------- */

/* A certificate that is whole and whose extension cache is filled: two threads that fill it at once free what the other
 * reads (CVE-2026-84783). */
static X509 *opensslcmp_certificate(opensslcmp_library *library, const unsigned char *der, size_t length)
{
    const unsigned char *at = der;
    X509 *certificate = NULL;

    /* d2i_X509(3) frees what it was given when it fails, and forgets it. */
    if (library != NULL && (certificate = X509_new_ex(library->ctx, library->propq)) == NULL)
        return NULL;
    certificate = d2i_X509(library == NULL ? NULL : &certificate, &at, (long)length);
    if (certificate != NULL && at != der + length) {
        ERR_raise_data(ERR_LIB_ASN1, ASN1_R_WRONG_TAG, "bytes follow the certificate");
        X509_free(certificate);
        return NULL;
    }
    if (certificate != NULL)
        X509_check_purpose(certificate, -1, 0);
    return certificate;
}

static X509_CRL *opensslcmp_crl(opensslcmp_library *library, const unsigned char *der, size_t length)
{
    const unsigned char *at = der;
    X509_CRL *crl = NULL;

    if (library != NULL && (crl = X509_CRL_new_ex(library->ctx, library->propq)) == NULL)
        return NULL;
    crl = d2i_X509_CRL(library == NULL ? NULL : &crl, &at, (long)length);

    if (crl != NULL && at != der + length) {
        ERR_raise_data(ERR_LIB_ASN1, ASN1_R_WRONG_TAG, "bytes follow the CRL");
        X509_CRL_free(crl);
        return NULL;
    }
    return crl;
}

/* A certificate above the leaf whose issuer gave us no CRL counts as not revoked. */
static int opensslcmp_crl_where_given(int ok, X509_STORE_CTX *ctx)
{
    if (!ok && X509_STORE_CTX_get_error(ctx) == X509_V_ERR_UNABLE_TO_GET_CRL && X509_STORE_CTX_get_error_depth(ctx) > 0) {
        X509_STORE_CTX_set_error(ctx, X509_V_OK);
        return 1;
    }
    return ok;
}

/* X509_verify_cert(3) of the first of `count` certificates (DER one after the other), through the others and `untrusted`,
 * up to an anchor, in a store of its own. The path comes back as DER one after the other, for opensslcmp_free. */
static int opensslcmp_path(opensslcmp_library *library, const unsigned char *ders, const size_t *lengths, int count, X509 **anchors, int anchor_count,
                           X509 **untrusted, int untrusted_count, X509_CRL **crls, int crl_count, int lenient_crls,
                           long long at, unsigned long flags, int depth, int level, int *error, int *error_depth,
                           unsigned char **path, size_t *path_length)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = library == NULL ? X509_STORE_CTX_new() : X509_STORE_CTX_new_ex(library->ctx, library->propq);
    STACK_OF(X509) *between = sk_X509_new_null();
    X509 *leaf = NULL, *certificate;
    X509_VERIFY_PARAM *param;
    int ok = store != NULL && ctx != NULL && between != NULL, result = -1, i;

    ERR_clear_error();
    *path = NULL;
    *path_length = 0;
    *error = X509_V_ERR_UNSPECIFIED;
    *error_depth = 0;
    /* Ours first: a damaged copy among a peer's hides nothing. */
    for (i = 0; ok && i < untrusted_count; i++)
        ok = X509_up_ref(untrusted[i]) && (sk_X509_push(between, untrusted[i]) > 0 || (X509_free(untrusted[i]), 0));
    for (i = 0; ok && i < count; ders += lengths[i], i++) {
        if ((certificate = opensslcmp_certificate(library, ders, lengths[i])) == NULL) {
            /* Nobody vouches for extraCerts: one that does not decode is as good as absent. */
            ok = i > 0;
        } else if (i == 0) {
            leaf = certificate;
        } else if (!sk_X509_push(between, certificate)) {
            X509_free(certificate);
            ok = 0;
        }
    }
    for (i = 0; ok && i < anchor_count; i++)
        ok = X509_STORE_add_cert(store, anchors[i]);
    for (i = 0; ok && i < crl_count; i++)
        ok = X509_STORE_add_crl(store, crls[i]);
    if (ok && X509_STORE_CTX_init(ctx, store, leaf, between)) {
        param = X509_STORE_CTX_get0_param(ctx);
        X509_VERIFY_PARAM_set_time(param, (time_t)at);
        X509_VERIFY_PARAM_set_depth(param, depth);
        X509_VERIFY_PARAM_set_auth_level(param, level);
        X509_VERIFY_PARAM_set_flags(param, flags);
        if (lenient_crls)
            X509_STORE_CTX_set_verify_cb(ctx, opensslcmp_crl_where_given);
        result = X509_verify_cert(ctx) == 1;
        *error = X509_STORE_CTX_get_error(ctx);
        *error_depth = X509_STORE_CTX_get_error_depth(ctx);
        if (result == 1) {
            STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
            for (i = 0; result == 1 && i < sk_X509_num(chain); i++)
                if (!opensslcmp_append(sk_X509_value(chain, i), path, path_length))
                    result = -1;
        }
    }
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    sk_X509_pop_free(between, X509_free);
    X509_free(leaf);
    if (result >= 0)
        ERR_clear_error();
    return result;
}

/* --- sealed bytes --------------------------------------------------------------------------------------------------- */

#define OPENSSLCMP_NONCE 12
#define OPENSSLCMP_TAG 16

/* AES-256-GCM with a random nonce: nonce, ciphertext, tag into out (length + 28 bytes). */
static int opensslcmp_seal(const unsigned char *key, const unsigned char *plain, size_t length, const unsigned char *data,
                           size_t data_length, unsigned char *out)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int written = 0, ok;

    ERR_clear_error();
    ok = ctx != NULL && length <= INT_MAX && data_length <= INT_MAX && RAND_bytes(out, OPENSSLCMP_NONCE) == 1
        && EVP_EncryptInit_ex2(ctx, EVP_aes_256_gcm(), key, out, NULL)
        && EVP_EncryptUpdate(ctx, NULL, &written, data, (int)data_length)
        && EVP_EncryptUpdate(ctx, out + OPENSSLCMP_NONCE, &written, plain, (int)length)
        && EVP_EncryptFinal_ex(ctx, out + OPENSSLCMP_NONCE + length, &written)
        && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, OPENSSLCMP_TAG, out + OPENSSLCMP_NONCE + length) == 1;
    EVP_CIPHER_CTX_free(ctx);
    return ok ? 1 : -1;
}

/* The reverse, into out (length - 28 bytes): 0 when it was altered, or sealed with another key or other data. */
static int opensslcmp_unseal(const unsigned char *key, const unsigned char *sealed, size_t length,
                             const unsigned char *data, size_t data_length, unsigned char *out)
{
    EVP_CIPHER_CTX *ctx = NULL;
    size_t inner;
    int written = 0, result = -1;

    ERR_clear_error();
    if (length < OPENSSLCMP_NONCE + OPENSSLCMP_TAG || length > INT_MAX || data_length > INT_MAX)
        return 0;
    inner = length - OPENSSLCMP_NONCE - OPENSSLCMP_TAG;
    if ((ctx = EVP_CIPHER_CTX_new()) != NULL && EVP_DecryptInit_ex2(ctx, EVP_aes_256_gcm(), key, sealed, NULL)
        && EVP_DecryptUpdate(ctx, NULL, &written, data, (int)data_length)
        && EVP_DecryptUpdate(ctx, out, &written, sealed + OPENSSLCMP_NONCE, (int)inner)
        && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, OPENSSLCMP_TAG, (void *)(sealed + OPENSSLCMP_NONCE + inner)) == 1)
        result = EVP_DecryptFinal_ex(ctx, out + inner, &written) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (result != 1)
        OPENSSL_cleanse(out, inner);
    if (result >= 0)
        ERR_clear_error();
    return result;
}
