/* The yardstick: CMP enrollments as one writes them in C over OpenSSL's own API, timed for client and server apart.
 *
 *   anchor [-p mac|signature] [-c implicit|explicit] [-k ec|rsa|rsa3072|ed25519] [-n COUNT] [-w WARM_UP] [MODE]
 *
 * MODE
 *   (none)                       both ends in this process: OSSL_CMP_CTX against OSSL_CMP_SRV_CTX, DER across the middle
 *   -f                           floor: the same signatures and MACs alone, keys loaded
 *   -s HOST:PORT/PATH            the client only, over one raw socket, one write for each request, persistent
 *   -o HOST:PORT/PATH            the client only, over OpenSSL's own HTTP transfer as it comes
 * -r REFERENCE, -x SECRET        the MAC credential for -s and -o (for benchmarks: they show in the process list)
 *
 * Each transaction has fresh contexts; keys and certificates are loaded once. The server verifies protection and proof of
 * possession and signs a fresh certificate. Prints one JSON object; times are microseconds of CPU for each transaction. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/cmp.h>
#include <openssl/crmf.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MUST(call) do { if (!(call)) die(#call, __LINE__); } while (0)

static const char *protection = "mac", *confirm = "implicit", *key_type = "ec", *reference = "device", *secret = "anchor-secret";
static char *target;
static int raw_socket, connection = -1;
static EVP_PKEY *ca_key, *signer_key, *new_key;
static X509 *ca_cert, *signer_cert;
static X509_NAME *subject;
static double server_seconds;

struct transaction {
    OSSL_CMP_SRV_CTX *server;
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned int hash_length;
};

static void die(const char *what, int line)
{
    fprintf(stderr, "anchor.c:%d: %s failed\n", line, what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static double now(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static int is(const char *text, const char *other) { return strcmp(text, other) == 0; }

static EVP_PKEY *generate(const char *type)
{
    return is(type, "rsa") ? EVP_RSA_gen(2048) : is(type, "rsa3072") ? EVP_RSA_gen(3072)
        : is(type, "ed25519") ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519") : EVP_EC_gen("P-256");
}

static const EVP_MD *digest_for(EVP_PKEY *key) { return EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256(); }

/* ---- the authority ------------------------------------------------------------------------------------------------- */

static void add_extensions(X509 *cert, int is_ca)
{
    unsigned char id[EVP_MAX_MD_SIZE];
    unsigned int length;
    BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();
    ASN1_BIT_STRING *usage = ASN1_BIT_STRING_new();
    ASN1_OCTET_STRING *own = ASN1_OCTET_STRING_new();

    constraints->ca = is_ca ? 0xFF : 0;
    MUST(X509_add1_ext_i2d(cert, NID_basic_constraints, constraints, 1, 0));
    MUST(ASN1_BIT_STRING_set_bit(usage, 0, 1)); /* digitalSignature, keyCertSign, cRLSign */
    MUST(!is_ca || (ASN1_BIT_STRING_set_bit(usage, 5, 1) && ASN1_BIT_STRING_set_bit(usage, 6, 1)));
    MUST(X509_add1_ext_i2d(cert, NID_key_usage, usage, 1, 0));
    MUST(X509_pubkey_digest(cert, EVP_sha1(), id, &length));
    MUST(ASN1_OCTET_STRING_set(own, id, length));
    MUST(X509_add1_ext_i2d(cert, NID_subject_key_identifier, own, 0, 0));
    if (!is_ca) {
        AUTHORITY_KEYID *issuer = AUTHORITY_KEYID_new();

        issuer->keyid = ASN1_OCTET_STRING_dup(X509_get0_subject_key_id(ca_cert));
        MUST(X509_add1_ext_i2d(cert, NID_authority_key_identifier, issuer, 0, 0));
        AUTHORITY_KEYID_free(issuer);
    }
    BASIC_CONSTRAINTS_free(constraints);
    ASN1_BIT_STRING_free(usage);
    ASN1_OCTET_STRING_free(own);
}

static X509 *issue(const X509_NAME *name, EVP_PKEY *key, int is_ca)
{
    X509 *cert = X509_new();
    unsigned char bytes[16];
    BIGNUM *serial;

    RAND_bytes(bytes, sizeof(bytes));
    bytes[0] &= 0x7F;
    serial = BN_bin2bn(bytes, sizeof(bytes), NULL);
    MUST(X509_set_version(cert, X509_VERSION_3));
    MUST(BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)));
    MUST(X509_set_issuer_name(cert, is_ca ? name : X509_get_subject_name(ca_cert)));
    MUST(X509_set_subject_name(cert, name));
    MUST(X509_gmtime_adj(X509_getm_notBefore(cert), 0));
    MUST(X509_gmtime_adj(X509_getm_notAfter(cert), 90L * 24 * 3600));
    MUST(X509_set_pubkey(cert, key));
    add_extensions(cert, is_ca);
    MUST(X509_sign(cert, ca_key, digest_for(ca_key)));
    BN_free(serial);
    return cert;
}

/* The requested key. OpenSSL 3.0 has no getter for it: it is field [6] of the template in DER. */
static EVP_PKEY *requested_key(const OSSL_CRMF_MSG *request)
{
#if OPENSSL_VERSION_NUMBER >= 0x30200000L
    return X509_PUBKEY_get(OSSL_CRMF_CERTTEMPLATE_get0_publicKey(OSSL_CRMF_MSG_get0_tmpl(request)));
#else
    unsigned char *der = NULL;
    const unsigned char *at, *end, *start;
    long length;
    int tag, class, depth;
    EVP_PKEY *key = NULL;

    MUST((length = i2d_OSSL_CRMF_MSG(request, &der)) > 0);
    at = der;
    end = der + length;
    for (depth = 0; depth < 3; depth++) { /* CertReqMsg, CertRequest, then past certReqId into CertTemplate */
        if (depth == 2) {
            ASN1_get_object(&at, &length, &tag, &class, end - at);
            at += length;
        }
        ASN1_get_object(&at, &length, &tag, &class, end - at);
    }
    for (end = at + length; at < end; at += length) {
        start = at;
        ASN1_get_object(&at, &length, &tag, &class, end - at);
        if (tag == 6 && class == V_ASN1_CONTEXT_SPECIFIC) {
            der[start - der] = V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED;
            key = d2i_PUBKEY(NULL, &start, at + length - start);
            break;
        }
    }
    OPENSSL_free(der);
    return key;
#endif
}

static OSSL_CMP_PKISI *on_request(OSSL_CMP_SRV_CTX *server, const OSSL_CMP_MSG *message, int id, const OSSL_CRMF_MSG *request,
                                  const X509_REQ *csr, X509 **cert, STACK_OF(X509) **chain, STACK_OF(X509) **ca_pubs)
{
    struct transaction *transaction = OSSL_CMP_SRV_CTX_get0_custom_ctx(server);
    EVP_PKEY *key = requested_key(request);

    (void)message, (void)id, (void)csr, (void)ca_pubs;
    MUST(key != NULL);
    *cert = issue(OSSL_CRMF_CERTTEMPLATE_get0_subject(OSSL_CRMF_MSG_get0_tmpl(request)), key, 0);
    EVP_PKEY_free(key);
    *chain = NULL;
    MUST(X509_digest(*cert, EVP_sha256(), transaction->hash, &transaction->hash_length));
    return OSSL_CMP_STATUSINFO_new(OSSL_CMP_PKISTATUS_accepted, 0, NULL);
}

static int on_confirm(OSSL_CMP_SRV_CTX *server, const OSSL_CMP_MSG *message, int id, const ASN1_OCTET_STRING *hash,
                      const OSSL_CMP_PKISI *status)
{
    struct transaction *transaction = OSSL_CMP_SRV_CTX_get0_custom_ctx(server);

    (void)message, (void)id, (void)status;
    return ASN1_STRING_length(hash) == (int)transaction->hash_length
        && memcmp(ASN1_STRING_get0_data(hash), transaction->hash, transaction->hash_length) == 0;
}

static void trust(OSSL_CMP_CTX *context)
{
    X509_STORE *store = X509_STORE_new();

    MUST(X509_STORE_add_cert(store, ca_cert));
    MUST(OSSL_CMP_CTX_set0_trustedStore(context, store));
}

static OSSL_CMP_SRV_CTX *new_server(struct transaction *transaction)
{
    OSSL_CMP_SRV_CTX *server = OSSL_CMP_SRV_CTX_new(NULL, NULL);
    OSSL_CMP_CTX *context = OSSL_CMP_SRV_CTX_get0_cmp_ctx(server);

    MUST(OSSL_CMP_SRV_CTX_init(server, transaction, on_request, NULL, NULL, NULL, on_confirm, NULL));
    MUST(OSSL_CMP_SRV_CTX_set_grant_implicit_confirm(server, 1));
    MUST(OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_LOG_VERBOSITY, OSSL_CMP_LOG_ERR));
    MUST(OSSL_CMP_CTX_set1_cert(context, ca_cert));
    if (is(protection, "mac")) {
        MUST(OSSL_CMP_CTX_set1_referenceValue(context, (const unsigned char *)reference, strlen(reference)));
        MUST(OSSL_CMP_CTX_set1_secretValue(context, (const unsigned char *)secret, strlen(secret)));
    } else {
        MUST(OSSL_CMP_CTX_set1_pkey(context, ca_key));
        trust(context);
    }
    return server;
}

static int serve(struct transaction *transaction, const unsigned char *der, long length, unsigned char **out)
{
    double start = now(CLOCK_THREAD_CPUTIME_ID);
    OSSL_CMP_MSG *request, *answer;
    int out_length;

    if (transaction->server == NULL)
        transaction->server = new_server(transaction);
    MUST(request = d2i_OSSL_CMP_MSG(NULL, &der, length));
    MUST(answer = OSSL_CMP_SRV_process_request(transaction->server, request));
    MUST((out_length = i2d_OSSL_CMP_MSG(answer, out)) > 0);
    OSSL_CMP_MSG_free(request);
    OSSL_CMP_MSG_free(answer);
    server_seconds += now(CLOCK_THREAD_CPUTIME_ID) - start;
    return out_length;
}

/* ---- transfers ----------------------------------------------------------------------------------------------------- */

static OSSL_CMP_MSG *in_process(OSSL_CMP_CTX *context, const OSSL_CMP_MSG *request)
{
    unsigned char *der = NULL, *answer = NULL;
    const unsigned char *at;
    int length = i2d_OSSL_CMP_MSG(request, &der);
    OSSL_CMP_MSG *message;

    MUST(length > 0);
    length = serve(OSSL_CMP_CTX_get_transfer_cb_arg(context), der, length, &answer);
    at = answer;
    message = d2i_OSSL_CMP_MSG(NULL, &at, length);
    OPENSSL_free(der);
    OPENSSL_free(answer);
    return message;
}

static char *host, *path;
static int port;

static void split_target(void)
{
    char *slash = strchr(target, '/'), *colon = strchr(target, ':');

    MUST(colon != NULL && slash > colon);
    *slash = *colon = '\0';
    host = target;
    port = atoi(colon + 1);
    path = slash + 1;
}

static int connect_to_target(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    int handle = socket(AF_INET, SOCK_STREAM, 0);

    MUST(inet_pton(AF_INET, host, &address.sin_addr) == 1);
    MUST(connect(handle, (struct sockaddr *)&address, sizeof(address)) == 0);
    return handle;
}

static OSSL_CMP_MSG *over_socket(OSSL_CMP_CTX *context, const OSSL_CMP_MSG *request)
{
    static char buffer[1 << 17];
    unsigned char *der = NULL;
    const unsigned char *body;
    char *end, *field;
    long length, have = 0, got, expected;
    int der_length = i2d_OSSL_CMP_MSG(request, &der);
    OSSL_CMP_MSG *message;

    (void)context;
    length = snprintf(buffer, sizeof(buffer), "POST /%s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/pkixcmp\r\n"
                      "Content-Length: %d\r\n\r\n", path, host, port, der_length);
    memcpy(buffer + length, der, der_length);
    OPENSSL_free(der);
    if (connection < 0)
        connection = connect_to_target();
    MUST(write(connection, buffer, length + der_length) == length + der_length);
    do {
        MUST((got = read(connection, buffer + have, sizeof(buffer) - 1 - have)) > 0);
        have += got;
        buffer[have] = '\0';
    } while ((end = strstr(buffer, "\r\n\r\n")) == NULL);
    *end = '\0';
    MUST((field = strcasestr(buffer, "\r\ncontent-length:")) != NULL);
    expected = end + 4 - buffer + atol(field + 17);
    while (have < expected) {
        MUST((got = read(connection, buffer + have, sizeof(buffer) - have)) > 0);
        have += got;
    }
    body = (unsigned char *)end + 4;
    message = d2i_OSSL_CMP_MSG(NULL, &body, expected - (end + 4 - buffer));
    return message;
}

/* ---- the client ---------------------------------------------------------------------------------------------------- */

static void enroll(void)
{
    struct transaction transaction = { NULL };
    OSSL_CMP_CTX *context = OSSL_CMP_CTX_new(NULL, NULL);

    MUST(OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_LOG_VERBOSITY, OSSL_CMP_LOG_ERR));
    if (is(protection, "mac")) {
        MUST(OSSL_CMP_CTX_set1_referenceValue(context, (const unsigned char *)reference, strlen(reference)));
        MUST(OSSL_CMP_CTX_set1_secretValue(context, (const unsigned char *)secret, strlen(secret)));
    } else {
        MUST(OSSL_CMP_CTX_set1_cert(context, signer_cert));
        MUST(OSSL_CMP_CTX_set1_pkey(context, signer_key));
        trust(context);
    }
    MUST(OSSL_CMP_CTX_set1_subjectName(context, subject));
    MUST(EVP_PKEY_up_ref(new_key) && OSSL_CMP_CTX_set0_newPkey(context, 1, new_key));
    if (is(confirm, "implicit"))
        MUST(OSSL_CMP_CTX_set_option(context, OSSL_CMP_OPT_IMPLICIT_CONFIRM, 1));
    if (target == NULL) {
        MUST(OSSL_CMP_CTX_set_transfer_cb(context, in_process));
        MUST(OSSL_CMP_CTX_set_transfer_cb_arg(context, &transaction));
    } else if (raw_socket) {
        MUST(OSSL_CMP_CTX_set_transfer_cb(context, over_socket));
    } else {
        MUST(OSSL_CMP_CTX_set1_server(context, host));
        MUST(OSSL_CMP_CTX_set_serverPort(context, port));
        MUST(OSSL_CMP_CTX_set1_serverPath(context, path));
    }
    MUST(OSSL_CMP_exec_certreq(context, is(protection, "mac") ? OSSL_CMP_IR : OSSL_CMP_CR, NULL) != NULL);
    OSSL_CMP_CTX_free(context);
    OSSL_CMP_SRV_CTX_free(transaction.server);
}

/* ---- the floor: what no implementation can leave out --------------------------------------------------------------- */

static void sign_and_verify(EVP_PKEY *key, int times_signed, int times_verified)
{
    static const unsigned char message[400];
    unsigned char signature[512];
    size_t length = 0;
    int i;

    for (i = 0; i < times_signed; i++) {
        EVP_MD_CTX *context = EVP_MD_CTX_new();

        length = sizeof(signature);
        MUST(EVP_DigestSignInit(context, NULL, digest_for(key), NULL, key) > 0);
        MUST(EVP_DigestSign(context, signature, &length, message, sizeof(message)) > 0);
        EVP_MD_CTX_free(context);
    }
    for (i = 0; i < times_verified; i++) {
        EVP_MD_CTX *context = EVP_MD_CTX_new();

        MUST(EVP_DigestVerifyInit(context, NULL, digest_for(key), NULL, key) > 0);
        MUST(EVP_DigestVerify(context, signature, length, message, sizeof(message)) > 0);
        EVP_MD_CTX_free(context);
    }
}

static void floor_of_enrollment(void)
{
    int messages = is(confirm, "implicit") ? 2 : 4, i;

    sign_and_verify(new_key, 1, 1); /* proof of possession */
    sign_and_verify(ca_key, 1, 0);  /* the certificate */
    if (is(protection, "mac")) {
        for (i = 0; i < messages * 2; i++) {
            static const unsigned char message[400];
            OSSL_CRMF_PBMPARAMETER *parameters = OSSL_CRMF_pbmp_new(NULL, 16, NID_sha256, 500, NID_hmac_sha1);
            unsigned char *mac = NULL;
            size_t length;

            MUST(OSSL_CRMF_pbm_new(NULL, NULL, parameters, message, sizeof(message), (const unsigned char *)secret,
                                   strlen(secret), &mac, &length));
            OPENSSL_free(mac);
            OSSL_CRMF_PBMPARAMETER_free(parameters);
        }
    } else {
        sign_and_verify(signer_key, messages / 2, messages / 2);
        sign_and_verify(ca_key, messages / 2, messages / 2 + 1); /* and the path of the signer's certificate, once */
    }
}

int main(int argc, char **argv)
{
    int option, count = 200, warm_up = 20, only_floor = 0, i;
    double cpu = 0, wall = 0;
    X509_NAME *ca_name = X509_NAME_new(), *signer_name = X509_NAME_new();

    signal(SIGPIPE, SIG_IGN);
    while ((option = getopt(argc, argv, "p:c:k:n:w:fs:o:r:x:")) != -1)
        switch (option) {
        case 'p': protection = optarg; break;
        case 'c': confirm = optarg; break;
        case 'k': key_type = optarg; break;
        case 'n': count = atoi(optarg); break;
        case 'w': warm_up = atoi(optarg); break;
        case 'f': only_floor = 1; break;
        case 's': raw_socket = 1; /* fall through */
        case 'o': target = optarg; break;
        case 'r': reference = optarg; break;
        case 'x': secret = optarg; break;
        default: return 2;
        }
    if (target != NULL)
        split_target();
    /* 3.0 can neither protect a message with EdDSA nor confirm a certificate signed with it, so the CA has an EC key. */
    MUST(ca_key = generate(is(key_type, "ed25519") ? "ec" : key_type));
    MUST(signer_key = generate(is(key_type, "ed25519") ? "ec" : key_type));
    MUST(new_key = generate(key_type));
    X509_NAME_add_entry_by_txt(ca_name, "CN", MBSTRING_UTF8, (const unsigned char *)"Anchor CA", -1, -1, 0);
    X509_NAME_add_entry_by_txt(signer_name, "CN", MBSTRING_UTF8, (const unsigned char *)"signer", -1, -1, 0);
    subject = X509_NAME_new();
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)"device", -1, -1, 0);
    ca_cert = issue(ca_name, ca_key, 1);
    signer_cert = issue(signer_name, signer_key, 0);

    for (i = -warm_up; i < count; i++) {
        if (i == 0) {
            server_seconds = 0;
            cpu = now(CLOCK_THREAD_CPUTIME_ID);
            wall = now(CLOCK_MONOTONIC);
        }
        if (only_floor)
            floor_of_enrollment();
        else
            enroll();
    }
    cpu = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
    wall = now(CLOCK_MONOTONIC) - wall;
    printf("{\"openssl\": \"%s\", \"count\": %d, \"total\": %.1f, \"client\": %.1f, \"server\": %.1f, \"wall\": %.1f}\n",
           OpenSSL_version(OPENSSL_VERSION_STRING), count, cpu / count * 1e6, (cpu - server_seconds) / count * 1e6,
           server_seconds / count * 1e6, wall / count * 1e6);
    return 0;
}
