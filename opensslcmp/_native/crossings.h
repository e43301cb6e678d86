/* Several C calls made in one crossing, because each crossing may wait 5 ms for the GIL. No decisions: each function is
 * the sequence that its comment names, and stops at the first failure with the reason in the error queue. */

/* OPENSSL_free is a macro. */
static void opensslcmp_free(void *pointer) { OPENSSL_free(pointer); }

/* sk_X_pop_free(3) with the elements' own free function */
static void opensslcmp_certificates_free(STACK_OF(X509) *stack) { sk_X509_pop_free(stack, X509_free); }
static void opensslcmp_extensions_free(X509_EXTENSIONS *stack) { sk_X509_EXTENSION_pop_free(stack, X509_EXTENSION_free); }
static void opensslcmp_itavs_free(STACK_OF(OSSL_CMP_ITAV) *stack) { sk_OSSL_CMP_ITAV_pop_free(stack, OSSL_CMP_ITAV_free); }

/* d2i_X509(3) for certificates that stand one after the other, i2d_X509(3) for a stack */
static STACK_OF(X509) *opensslcmp_certificates_d2i(const unsigned char *der, long length)
{
    const unsigned char *cursor = der;
    STACK_OF(X509) *stack = sk_X509_new_null();

    while (stack != NULL && cursor < der + length) {
        X509 *certificate = d2i_X509(NULL, &cursor, der + length - cursor);

        if (certificate == NULL || !sk_X509_push(stack, certificate)) {
            X509_free(certificate);
            opensslcmp_certificates_free(stack);
            return NULL;
        }
    }
    return stack;
}
static long opensslcmp_certificates_i2d(const STACK_OF(X509) *stack, unsigned char **out)
{
    long length = 0;
    unsigned char *cursor;

    for (int i = 0; i < sk_X509_num(stack); i++)
        length += i2d_X509(sk_X509_value(stack, i), NULL);
    if ((cursor = *out = OPENSSL_malloc(length + 1)) == NULL)
        return -1;
    for (int i = 0; i < sk_X509_num(stack); i++)
        i2d_X509(sk_X509_value(stack, i), &cursor);
    return length;
}

/* X509_STORE_add_cert(3) for a stack; primes what libcrypto would else compute on first use (CVE-2026-84783) */
static int opensslcmp_store_add(X509_STORE *store, const STACK_OF(X509) *stack)
{
    for (int i = 0; i < sk_X509_num(stack); i++) {
        X509_check_purpose(sk_X509_value(stack, i), -1, 0);
        if (!X509_STORE_add_cert(store, sk_X509_value(stack, i)))
            return 0;
    }
    return 1;
}

/* InfoTypeAndValue has no public codec, but PKIHeader has, and its last field is a sequence of them. */
static const ASN1_ITEM *opensslcmp_itav_it(void)
{
    const ASN1_ITEM *header = ASN1_ITEM_rptr(OSSL_CMP_PKIHEADER);
    const ASN1_TEMPLATE *info = &header->templates[header->tcount - 1];

    return ASN1_ITEM_ptr(info->item);
}
static OSSL_CMP_ITAV *opensslcmp_itav_d2i(OSSL_CMP_ITAV **out, const unsigned char **in, long length)
{
    return (OSSL_CMP_ITAV *)ASN1_item_d2i((ASN1_VALUE **)out, in, length, opensslcmp_itav_it());
}
static int opensslcmp_itav_i2d(const OSSL_CMP_ITAV *itav, unsigned char **out)
{
    return ASN1_item_i2d((const ASN1_VALUE *)itav, out, opensslcmp_itav_it());
}

/* OSSL_CMP_CTX_set_transfer_cb(3): Python sees DER; i2d and d2i happen on this side, without the GIL. */
static long opensslcmp_on_transfer(OSSL_CMP_CTX *, const unsigned char *, size_t, const unsigned char **);
static OSSL_CMP_MSG *opensslcmp_transfer(OSSL_CMP_CTX *ctx, const OSSL_CMP_MSG *request)
{
    unsigned char *der = NULL;
    const unsigned char *answer = NULL, *cursor;
    OSSL_CMP_MSG *message = NULL;
    long length = i2d_OSSL_CMP_MSG(request, &der);

    if (length <= 0)
        return NULL;
    length = opensslcmp_on_transfer(ctx, der, length, &answer);
    OPENSSL_free(der);
    if (length < 0)
        return NULL;
    cursor = answer;
    message = (OSSL_CMP_MSG *)ASN1_item_d2i_ex(NULL, &cursor, length, ASN1_ITEM_rptr(OSSL_CMP_MSG), opensslcmp_libctx(ctx),
        opensslcmp_propq(ctx));
    if (message != NULL && cursor != answer + length) {
        OSSL_CMP_MSG_free(message);
        message = NULL;
        ERR_raise_data(ERR_LIB_CMP, ERR_R_PASSED_INVALID_ARGUMENT, "bytes follow the message");
    }
    return message;
}

/* OSSL_CMP_CTX_set_certConf_cb(3): OpenSSL's own check first, which also builds newChain; then Python's. */
static int opensslcmp_on_cert_conf(OSSL_CMP_CTX *, const unsigned char *, size_t, const char **);
static int opensslcmp_cert_conf(OSSL_CMP_CTX *ctx, X509 *certificate, int failures, const char **text)
{
    unsigned char *der = NULL;
    int length;

    failures = OSSL_CMP_certConf_cb(ctx, certificate, failures, text);
    if (failures != 0)
        return failures;
    if ((length = i2d_X509(certificate, &der)) <= 0)
        return OSSL_CMP_CTX_FAILINFO_systemFailure;
    failures = opensslcmp_on_cert_conf(ctx, der, length, text);
    OPENSSL_free(der);
    return failures;
}

/* d2i_OSSL_CMP_MSG(3), OSSL_CMP_SRV_process_request(3), i2d_OSSL_CMP_MSG(3). The queue is emptied first: its oldest entry
 * would be told to the client. */
static int opensslcmp_process(OSSL_CMP_SRV_CTX *server, const unsigned char *der, long length, unsigned char **out)
{
    const unsigned char *cursor = der;
    OSSL_CMP_CTX *ctx = OSSL_CMP_SRV_CTX_get0_cmp_ctx(server);
    OSSL_CMP_MSG *request, *answer = NULL;
    int size = 0;

    ERR_clear_error();
    request = (OSSL_CMP_MSG *)ASN1_item_d2i_ex(NULL, &cursor, length, ASN1_ITEM_rptr(OSSL_CMP_MSG), opensslcmp_libctx(ctx),
        opensslcmp_propq(ctx));
    if (request != NULL && cursor == der + length)
        answer = OSSL_CMP_SRV_process_request(server, request);
    else if (request != NULL)
        ERR_raise_data(ERR_LIB_CMP, ERR_R_PASSED_INVALID_ARGUMENT, "bytes follow the message");
    if (answer != NULL)
        size = i2d_OSSL_CMP_MSG(answer, out);
    OSSL_CMP_MSG_free(request);
    OSSL_CMP_MSG_free(answer);
    return size;
}

#include "crossings_protection.h"
#include "crossings_cms.h"
#include "crossings_kem.h"
#include "crossings_http.h"
#include "crossings_session.h"
#include "crossings_config.h"
