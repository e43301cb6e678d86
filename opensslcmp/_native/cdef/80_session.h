/* crossings_session.h: one enrollment over OSSL_CMP_CTX */
typedef struct {
    int body_type;
    EVP_PKEY *key;
    int key_is_private;
    X509 *old_certificate;
    const unsigned char *subject;
    size_t subject_length;
    const unsigned char *issuer;
    size_t issuer_length;
    const unsigned char *request;
    size_t request_length;
    const unsigned char *extensions;
    size_t extensions_length;
    const unsigned char *secret;
    size_t secret_length;
    int popo;
    int days;
    int has_validity;
    int64_t not_before;
    int64_t not_after;
    int without_default_sans;
    const char *digest;
    const char *token;
    opensslcmp_library *library;
    void *handle;
    const unsigned char *answer;
    size_t answer_length;
    int build_only;
    unsigned char *built;
    int built_length;
    unsigned char *certificate;
    int certificate_length;
} opensslcmp_session;

int opensslcmp_session_enroll(opensslcmp_session *);

extern "Python" int opensslcmp_on_exchange(opensslcmp_session *, const unsigned char *, size_t);
