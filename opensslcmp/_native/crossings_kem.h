/* HMAC and KMAC under keys that were derived before: one crossing. Results as in crossings_protection.h. */

/* HMAC with a digest, or KMAC of `size` bytes with a customization string, over data; into out (size bytes, or EVP_MAX_MD_SIZE),
 * or compared with `expected` in constant time. */
static int opensslcmp_keyed_mac(opensslcmp_library *library, const char *name, const char *digest, size_t size,
                                const unsigned char *custom, size_t custom_length, const unsigned char *key,
                                size_t key_length, const unsigned char *data, size_t length, unsigned char *out,
                                size_t *out_length, const unsigned char *expected, size_t expected_length)
{
    unsigned char mine[EVP_MAX_MD_SIZE];
    EVP_MAC *mac = NULL;
    EVP_MAC_CTX *ctx = NULL;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_size_t("size", &size),
                            OSSL_PARAM_construct_octet_string("custom", (void *)custom, custom_length),
                            OSSL_PARAM_construct_end() };
    size_t made = 0;
    int result = -1;

    ERR_clear_error();
    library = opensslcmp_in(library);
    if (digest != NULL) {
        result = opensslcmp_hmac_of(library, digest, key, key_length, data, length, out, out_length, expected, expected_length);
    } else if (size <= sizeof(mine) && (mac = EVP_MAC_fetch(library->ctx, name, library->propq)) != NULL
               && (ctx = EVP_MAC_CTX_new(mac)) != NULL && EVP_MAC_init(ctx, key, key_length, params) == 1
               && EVP_MAC_update(ctx, data, length) == 1 && EVP_MAC_final(ctx, mine, &made, sizeof(mine)) == 1) {
        if (expected == NULL) {
            memcpy(out, mine, made);
            *out_length = made;
            result = 1;
        } else {
            result = expected_length == made && CRYPTO_memcmp(mine, expected, made) == 0;
        }
    }
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    OPENSSL_cleanse(mine, sizeof(mine));
    if (result >= 0)
        ERR_clear_error();
    return result;
}
