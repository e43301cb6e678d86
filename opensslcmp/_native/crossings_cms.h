/* What CMS is made of (RFC 5652): key transport, key agreement, encapsulation, key derivation, block ciphers. One crossing each; the
 * structures themselves are Python's. Results are those of crossings_protection.h. */
#include <limits.h>
#include <openssl/rsa.h>

/* EVP_PKEY_encrypt(3) with the RSA key of a SubjectPublicKeyInfo; oaep NULL: PKCS #1 v1.5, else hash (and mask) of OAEP. */
static int opensslcmp_padding(EVP_PKEY_CTX *ctx, const char *oaep, const char *mask)
{
    if (oaep == NULL)
        return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) > 0;
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) > 0 && EVP_PKEY_CTX_set_rsa_oaep_md_name(ctx, oaep, NULL) > 0
        && EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, mask, NULL) > 0;
}

static int opensslcmp_transport(opensslcmp_library *library, const unsigned char *spki, size_t spki_length, int minimum_bits, int maximum_bits,
                                const char *oaep, const char *mask, const unsigned char *data, size_t length, unsigned char *out,
                                size_t *out_length)
{
    int result;
    EVP_PKEY *key;
    EVP_PKEY_CTX *ctx;

    ERR_clear_error();
    library = opensslcmp_in(library);
    if ((key = opensslcmp_public_key(library, spki, spki_length, OPENSSLCMP_KIND_RSA, minimum_bits, maximum_bits, &result)) == NULL)
        return result;
    ctx = EVP_PKEY_CTX_new_from_pkey(library->ctx, key, library->propq);
    result = ctx != NULL && EVP_PKEY_encrypt_init(ctx) == 1 && opensslcmp_padding(ctx, oaep, mask)
                 && EVP_PKEY_encrypt(ctx, out, out_length, data, length) == 1
        ? 1
        : -1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    return result;
}

/* EVP_PKEY_decrypt(3) into out, which holds `size` random bytes: they stay there, and nothing else tells of it, when the padding is
 * wrong or the length another one (RFC 3218, 2.3.2). */
static int opensslcmp_transported(opensslcmp_library *library, EVP_PKEY *key, const char *oaep, const char *mask,
                                  const unsigned char *data, size_t length, unsigned char *out, size_t size)
{
    size_t got = (size_t)EVP_PKEY_get_size(key);
    unsigned char *plain = OPENSSL_zalloc(got < size ? size : got);
    size_t room = got < size ? size : got;
    EVP_PKEY_CTX *ctx;
    unsigned char keep;
    int ready, ok;

    ERR_clear_error();
    library = opensslcmp_in(library);
    ctx = EVP_PKEY_CTX_new_from_pkey(library->ctx, key, library->propq);
    ready = plain != NULL && ctx != NULL && EVP_PKEY_decrypt_init(ctx) == 1 && opensslcmp_padding(ctx, oaep, mask);
    if (ready) {
        ok = EVP_PKEY_decrypt(ctx, plain, &got, data, length) > 0;
        keep = (unsigned char)(0 - (unsigned char)(ok & (got == size)));
        for (size_t i = 0; i < size; i++)
            out[i] = (unsigned char)((plain[i] & keep) | (out[i] & (unsigned char)~keep));
        ERR_clear_error();
    }
    EVP_PKEY_CTX_free(ctx);
    OPENSSL_clear_free(plain, room);
    return ready ? 1 : -1;
}

/* EVP_PKEY_derive(3) with the key of a SubjectPublicKeyInfo of this kind. */
static int opensslcmp_agree(opensslcmp_library *library, EVP_PKEY *key, const unsigned char *spki, size_t spki_length, int kind,
                            unsigned char *out, size_t *out_length)
{
    int result;
    EVP_PKEY *peer;
    EVP_PKEY_CTX *ctx;

    ERR_clear_error();
    library = opensslcmp_in(library);
    if ((peer = opensslcmp_public_key(library, spki, spki_length, kind, 0, 0, &result)) == NULL)
        return result;
    ctx = EVP_PKEY_CTX_new_from_pkey(library->ctx, key, library->propq);
    result = ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, peer) == 1
                 && EVP_PKEY_derive(ctx, out, out_length) == 1
        ? 1
        : -1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(peer);
    return result;
}

/* EVP_PKEY_encapsulate(3) for the key of a SubjectPublicKeyInfo: ML-KEM, or RSA as EVP_KEM-RSA(7) (RSASVE). */
static int opensslcmp_encapsulate(opensslcmp_library *library, const unsigned char *spki, size_t spki_length, int kind, int minimum_bits,
                                  int maximum_bits, unsigned char *out, size_t *out_length, unsigned char *secret, size_t *secret_length)
{
    int result;
    EVP_PKEY *key;
    EVP_PKEY_CTX *ctx;

    ERR_clear_error();
    library = opensslcmp_in(library);
    if ((key = opensslcmp_public_key(library, spki, spki_length, kind, minimum_bits, maximum_bits, &result)) == NULL)
        return result;
    ctx = EVP_PKEY_CTX_new_from_pkey(library->ctx, key, library->propq);
    result = ctx != NULL && EVP_PKEY_encapsulate_init(ctx, NULL) == 1
                 && (kind != OPENSSLCMP_KIND_RSA || EVP_PKEY_CTX_set_kem_op(ctx, "RSASVE") > 0)
                 && EVP_PKEY_encapsulate(ctx, out, out_length, secret, secret_length) == 1
        ? 1
        : -1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    return result;
}

/* EVP_PKEY_decapsulate(3) */
static int opensslcmp_decapsulate(opensslcmp_library *library, EVP_PKEY *key, const unsigned char *data, size_t length,
                                  unsigned char *secret, size_t *secret_length)
{
    EVP_PKEY_CTX *ctx;
    int ok;

    ERR_clear_error();
    library = opensslcmp_in(library);
    ctx = EVP_PKEY_CTX_new_from_pkey(library->ctx, key, library->propq);
    ok = ctx != NULL && EVP_PKEY_decapsulate_init(ctx, NULL) == 1
        && (!EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_CTX_set_kem_op(ctx, "RSASVE") > 0)
        && EVP_PKEY_decapsulate(ctx, secret, secret_length, data, length) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok ? 1 : -1;
}

/* EVP_KDF_derive(3): HKDF, X963KDF (also KDF2 of X9.44), SSKDF (KDF3); PBKDF2 when there are iterations. */
static int opensslcmp_kdf(opensslcmp_library *library, const char *name, const char *digest, int iterations, const unsigned char *key,
                          size_t key_length, const unsigned char *salt, size_t salt_length, const unsigned char *info,
                          size_t info_length, unsigned char *out, size_t size)
{
    EVP_KDF *kdf;
    EVP_KDF_CTX *ctx;
    OSSL_PARAM params[6], *next = params;
    int ok;

    ERR_clear_error();
    library = opensslcmp_in(library);
    if (iterations > 0)
        return opensslcmp_pbkdf2(library, digest, iterations, salt, salt_length, key, key_length, out, size) ? 1 : -1;
    kdf = EVP_KDF_fetch(library->ctx, name, library->propq);
    ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    *next++ = OSSL_PARAM_construct_utf8_string("digest", (char *)digest, 0);
    *next++ = OSSL_PARAM_construct_octet_string("key", (void *)key, key_length);
    *next++ = OSSL_PARAM_construct_octet_string("info", (void *)info, info_length);
    if (salt_length > 0)
        *next++ = OSSL_PARAM_construct_octet_string("salt", (void *)salt, salt_length);
    if (library->propq != NULL)
        *next++ = OSSL_PARAM_construct_utf8_string("properties", library->propq, 0);
    *next = OSSL_PARAM_construct_end();
    ok = ctx != NULL && EVP_KDF_derive(ctx, out, size, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok ? 1 : -1;
}

/* EVP_CipherInit_ex2(3): all of data into out (length + 32 bytes), for CBC and key wrapping; 0 when it does not decrypt. */
static int opensslcmp_cipher(opensslcmp_library *library, const char *name, int encrypting, int padding, const unsigned char *key,
                             size_t key_length, const unsigned char *iv, const unsigned char *data, size_t length, unsigned char *out,
                             size_t *out_length)
{
    EVP_CIPHER *cipher;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int first = 0, last = 0, ready, ok = 0;

    ERR_clear_error();
    library = opensslcmp_in(library);
    cipher = EVP_CIPHER_fetch(library->ctx, name, library->propq);
    if (ctx != NULL)
        EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    ready = cipher != NULL && ctx != NULL && length <= INT_MAX / 2 && (size_t)EVP_CIPHER_get_key_length(cipher) == key_length
        && EVP_CipherInit_ex2(ctx, cipher, key, iv, encrypting, NULL) == 1;
    if (ready && !padding)
        EVP_CIPHER_CTX_set_padding(ctx, 0);
    if (ready)
        ok = EVP_CipherUpdate(ctx, out, &first, data, (int)length) == 1 && first >= 0
            && EVP_CipherFinal_ex(ctx, out + first, &last) == 1;
    *out_length = ok ? (size_t)(first + last) : 0;
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    if (ready)
        ERR_clear_error();
    return ready ? ok : -1;
}
