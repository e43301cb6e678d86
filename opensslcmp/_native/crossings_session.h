/* One enrollment in one crossing: OSSL_CMP_CTX_new(3), every setter it needs, OSSL_CMP_exec_certreq(3), the certificate.
 *
 * The context belongs to this call: it protects nothing on the way out (the exchange does) and verifies on the way in a copy
 * that the exchange made under a secret of this transaction. It confirms nothing, so it asks for one transfer only; with
 * build_only it ends there, and what was to be sent is the result. */
typedef struct {
    int body_type;                      /* OSSL_CMP_IR, CR, P10CR, KUR */
    EVP_PKEY *key;                      /* to be certified; NULL for P10CR */
    int key_is_private;
    X509 *old_certificate;              /* KUR: the one to be updated */
    const unsigned char *subject;       /* DER of a Name, or NULL */
    size_t subject_length;
    const unsigned char *issuer;
    size_t issuer_length;
    const unsigned char *request;       /* DER of a CSR, or NULL */
    size_t request_length;
    const unsigned char *extensions;    /* DER of Extensions, or NULL */
    size_t extensions_length;
    const unsigned char *secret;        /* of the copies */
    size_t secret_length;
    int popo;                           /* OSSL_CRMF_POPO_... */
    int days;                           /* 0: none asked for */
    int has_validity;
    int64_t not_before;                 /* seconds since 1970 */
    int64_t not_after;
    int without_default_sans;
    const char *digest;                 /* of the POPO, or NULL */
    const char *token;                  /* regToken, or NULL */
    opensslcmp_library *library;        /* NULL: the process's own */
    void *handle;                       /* the Python object */
    const unsigned char *answer;        /* set by on_exchange, which keeps it */
    size_t answer_length;
    int build_only;                     /* stop where the request would be sent */
    unsigned char *built;               /* out: the request in DER, for OPENSSL_free */
    int built_length;
    unsigned char *certificate;         /* out: DER, for OPENSSL_free */
    int certificate_length;
} opensslcmp_session;

static int opensslcmp_on_exchange(opensslcmp_session *, const unsigned char *, size_t);

/* OSSL_CMP_CTX_set_transfer_cb(3): i2d and d2i happen on this side, without the GIL. */
static OSSL_CMP_MSG *opensslcmp_session_transfer(OSSL_CMP_CTX *ctx, const OSSL_CMP_MSG *request)
{
    opensslcmp_session *session = OSSL_CMP_CTX_get_transfer_cb_arg(ctx);
    const unsigned char *cursor;
    unsigned char *der = NULL;
    int length = i2d_OSSL_CMP_MSG(request, &der), passed;

    if (length <= 0)
        return NULL;
    if (session->build_only) {
        session->built = der;
        session->built_length = length;
        return NULL;
    }
    passed = opensslcmp_on_exchange(session, der, length);
    OPENSSL_free(der);
    if (passed != 1)
        return NULL;
    cursor = session->answer;
    return (OSSL_CMP_MSG *)ASN1_item_d2i_ex(NULL, &cursor, (long)session->answer_length, ASN1_ITEM_rptr(OSSL_CMP_MSG),
                                            opensslcmp_in(session->library)->ctx, opensslcmp_in(session->library)->propq);
}

/* OSSL_CMP_CTX_set_certConf_cb(3): the caller decides afterwards, on the certificate as it stands. */
static int opensslcmp_session_accept(OSSL_CMP_CTX *ctx, X509 *certificate, int failures, const char **text)
{
    (void)ctx, (void)certificate, (void)failures, (void)text;
    return 0;
}

static X509_NAME *opensslcmp_session_name(const unsigned char *der, size_t length) { return d2i_X509_NAME(NULL, &der, length); }

/* OSSL_CMP_CTX_setup_CRM(3), then what it has no setter for, then OSSL_CRMF_MSG_create_popo(3) over the whole */
static OSSL_CRMF_MSG *opensslcmp_session_crm(opensslcmp_session *session, OSSL_CMP_CTX *ctx)
{
    OSSL_CRMF_MSG *crm = OSSL_CMP_CTX_setup_CRM(ctx, session->body_type == OSSL_CMP_KUR, 0);
    ASN1_TIME *from = NULL, *until = NULL;
    ASN1_UTF8STRING *token = NULL;
    const EVP_MD *digest = EVP_get_digestbyname(session->digest == NULL ? "SHA256" : session->digest);
    int ok = crm != NULL;

    if (ok && session->has_validity) {
        ok = (from = ASN1_TIME_adj(NULL, session->not_before, 0, 0)) != NULL
            && (until = ASN1_TIME_adj(NULL, session->not_after, 0, 0)) != NULL
            && OSSL_CRMF_MSG_set0_validity(crm, from, until);
        if (ok)
            from = until = NULL;
    }
    if (ok && session->token != NULL)
        ok = (token = ASN1_UTF8STRING_new()) != NULL && ASN1_STRING_set(token, session->token, -1)
            && OSSL_CRMF_MSG_set1_regCtrl_regToken(crm, token);
    ok = ok && OSSL_CRMF_MSG_create_popo(session->popo, crm, session->key, digest, opensslcmp_in(session->library)->ctx,
                                        opensslcmp_in(session->library)->propq);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    ASN1_UTF8STRING_free(token);
    if (!ok) {
        OSSL_CRMF_MSG_free(crm);
        crm = NULL;
    }
    return crm;
}

static int opensslcmp_session_enroll(opensslcmp_session *session)
{
    OSSL_CMP_CTX *ctx;
    X509_NAME *subject = NULL, *issuer = NULL;
    X509_REQ *request = NULL;
    X509_EXTENSIONS *extensions = NULL;
    OSSL_CRMF_MSG *crm = NULL;
    X509 *certificate = NULL;
    const unsigned char *cursor;
    int ok;

    ERR_clear_error();
    if ((ctx = OSSL_CMP_CTX_new(opensslcmp_in(session->library)->ctx, opensslcmp_in(session->library)->propq)) == NULL)
        return 0;
    /* Level 2 keeps errors in the queue and off stderr. */
    ok = OSSL_CMP_CTX_set_log_verbosity(ctx, OSSL_CMP_LOG_CRIT)
        && OSSL_CMP_CTX_set_option(ctx, OSSL_CMP_OPT_UNPROTECTED_SEND, 1)
        && OSSL_CMP_CTX_set_option(ctx, OSSL_CMP_OPT_DISABLE_CONFIRM, 1)
        /* To 3.5 "none" means a key made by the CA: ours would not be in the template. opensslcmp_session_crm says none. */
        && OSSL_CMP_CTX_set_option(ctx, OSSL_CMP_OPT_POPO_METHOD,
                                   session->popo == OSSL_CRMF_POPO_NONE ? OSSL_CRMF_POPO_RAVERIFIED : session->popo)
        && OSSL_CMP_CTX_set_option(ctx, OSSL_CMP_OPT_SUBJECTALTNAME_NODEFAULT, session->without_default_sans)
        && OSSL_CMP_CTX_set1_secretValue(ctx, session->secret, (int)session->secret_length)
        /* Else a request without a subject is refused for want of a sender. */
        && OSSL_CMP_CTX_set1_referenceValue(ctx, (const unsigned char *)"opensslcmp", 10)
        && OSSL_CMP_CTX_set_certConf_cb(ctx, opensslcmp_session_accept)
        && OSSL_CMP_CTX_set_transfer_cb(ctx, opensslcmp_session_transfer)
        && OSSL_CMP_CTX_set_transfer_cb_arg(ctx, session);
    if (ok && session->days > 0)
        ok = OSSL_CMP_CTX_set_option(ctx, OSSL_CMP_OPT_VALIDITY_DAYS, session->days);
    if (ok && session->digest != NULL)
        ok = OSSL_CMP_CTX_set_option(ctx, OSSL_CMP_OPT_DIGEST_ALGNID, OBJ_txt2nid(session->digest));
    if (ok && session->subject != NULL)
        ok = (subject = opensslcmp_session_name(session->subject, session->subject_length)) != NULL
            && OSSL_CMP_CTX_set1_subjectName(ctx, subject);
    if (ok && session->issuer != NULL)
        ok = (issuer = opensslcmp_session_name(session->issuer, session->issuer_length)) != NULL
            && OSSL_CMP_CTX_set1_issuer(ctx, issuer);
    if (ok && session->old_certificate != NULL)
        ok = OSSL_CMP_CTX_set1_oldCert(ctx, session->old_certificate);
    if (ok && session->request != NULL) {
        cursor = session->request;
        ok = (request = d2i_X509_REQ(NULL, &cursor, session->request_length)) != NULL
            && OSSL_CMP_CTX_set1_p10CSR(ctx, request);
    }
    if (ok && session->extensions != NULL) {
        cursor = session->extensions;
        ok = (extensions = d2i_X509_EXTENSIONS(NULL, &cursor, session->extensions_length)) != NULL
            && OSSL_CMP_CTX_set0_reqExtensions(ctx, extensions);
        if (!ok)
            sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    }
    if (ok && session->key != NULL) {
        if ((ok = EVP_PKEY_up_ref(session->key)) && !(ok = OSSL_CMP_CTX_set0_newPkey(ctx, session->key_is_private, session->key)))
            EVP_PKEY_free(session->key);
    }
    if (ok && (session->has_validity || session->token != NULL || session->popo == OSSL_CRMF_POPO_NONE)
        && session->request == NULL)
        ok = (crm = opensslcmp_session_crm(session, ctx)) != NULL;
    if (ok)
        certificate = OSSL_CMP_exec_certreq(ctx, session->body_type, crm);
    if (certificate != NULL)
        session->certificate_length = i2d_X509(certificate, &session->certificate);
    X509_NAME_free(subject);
    X509_NAME_free(issuer);
    X509_REQ_free(request);
    OSSL_CRMF_MSG_free(crm);
    OSSL_CMP_CTX_free(ctx);
    if (session->built != NULL) {
        ERR_clear_error();
        return 1;
    }
    return certificate != NULL && session->certificate_length > 0;
}
