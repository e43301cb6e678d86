/* OSSL_HTTP_REQ_CTX(3), OSSL_HTTP_transfer(3), OSSL_HTTP_parse_url(3) */
typedef struct ossl_http_req_ctx_st OSSL_HTTP_REQ_CTX;

static const int OSSL_HTTP_DEFAULT_MAX_LINE_LEN;
static const int OSSL_HTTP_DEFAULT_MAX_RESP_LEN;
static const int OSSL_HTTP_DEFAULT_MAX_CRL_LEN;
static const int OSSL_HTTP_DEFAULT_MAX_RESP_HDR_LINES;

int OSSL_parse_url(const char *, char **, char **, char **, char **, int *, char **, char **, char **);
OSSL_HTTP_REQ_CTX *OSSL_HTTP_REQ_CTX_new(BIO *, BIO *, int);
void OSSL_HTTP_REQ_CTX_free(OSSL_HTTP_REQ_CTX *);
int OSSL_HTTP_REQ_CTX_set_request_line(OSSL_HTTP_REQ_CTX *, int, const char *, const char *, const char *);
int OSSL_HTTP_REQ_CTX_add1_header(OSSL_HTTP_REQ_CTX *, const char *, const char *);
int OSSL_HTTP_REQ_CTX_set_expected(OSSL_HTTP_REQ_CTX *, const char *, int, int, int);
int OSSL_HTTP_REQ_CTX_set1_req(OSSL_HTTP_REQ_CTX *, const char *, const ASN1_ITEM *, const ASN1_VALUE *);
int OSSL_HTTP_REQ_CTX_nbio(OSSL_HTTP_REQ_CTX *);
int OSSL_HTTP_REQ_CTX_nbio_d2i(OSSL_HTTP_REQ_CTX *, ASN1_VALUE **, const ASN1_ITEM *);
BIO *OSSL_HTTP_REQ_CTX_exchange(OSSL_HTTP_REQ_CTX *);
BIO *OSSL_HTTP_REQ_CTX_get0_mem_bio(const OSSL_HTTP_REQ_CTX *);
size_t OSSL_HTTP_REQ_CTX_get_resp_len(const OSSL_HTTP_REQ_CTX *);
void OSSL_HTTP_REQ_CTX_set_max_response_length(OSSL_HTTP_REQ_CTX *, unsigned long);
void OSSL_HTTP_REQ_CTX_set_max_response_hdr_lines(OSSL_HTTP_REQ_CTX *, size_t);
int OSSL_HTTP_is_alive(const OSSL_HTTP_REQ_CTX *);
OSSL_HTTP_REQ_CTX *OSSL_HTTP_open(const char *, const char *, const char *, const char *, int, BIO *, BIO *, OSSL_HTTP_bio_cb_t, void *, int, int);
int OSSL_HTTP_proxy_connect(BIO *, const char *, const char *, const char *, const char *, int, BIO *, const char *);
int OSSL_HTTP_set1_request(OSSL_HTTP_REQ_CTX *, const char *, const struct stack_st_CONF_VALUE *, const char *, BIO *, const char *, int, size_t, int, int);
BIO *OSSL_HTTP_exchange(OSSL_HTTP_REQ_CTX *, char **);
BIO *OSSL_HTTP_get(const char *, const char *, const char *, BIO *, BIO *, OSSL_HTTP_bio_cb_t, void *, int, const struct stack_st_CONF_VALUE *, const char *, int, size_t, int);
BIO *OSSL_HTTP_transfer(OSSL_HTTP_REQ_CTX **, const char *, const char *, const char *, int, const char *, const char *, BIO *, BIO *, OSSL_HTTP_bio_cb_t, void *, int, const struct stack_st_CONF_VALUE *, const char *, BIO *, const char *, int, size_t, int, int);
int OSSL_HTTP_close(OSSL_HTTP_REQ_CTX *, int);
int OSSL_HTTP_parse_url(const char *, int *, char **, char **, char **, int *, char **, char **, char **);
const char *OSSL_HTTP_adapt_proxy(const char *, const char *, const char *, int);

/* crossings_http.h: HTTP(S) on a connected, non-blocking socket */
static const int OPENSSLCMP_HTTP_FAILED;
static const int OPENSSLCMP_HTTP_CLOSED;
static const int OPENSSLCMP_HTTP_DATA;
static const int OPENSSLCMP_HTTP_WANTS_READ;
static const int OPENSSLCMP_HTTP_WANTS_WRITE;
const BIO_METHOD *opensslcmp_socket_method(void);
BIO *opensslcmp_socket_new(const BIO_METHOD *, int);
typedef struct {
    size_t sent;
    size_t got;
    int error;
    long verify;
    char data[65536];
} opensslcmp_http_io;
int opensslcmp_http_step(BIO *, int, opensslcmp_http_io *, const char *, size_t, int, int);

/* SSL_CTX_new(3), BIO_f_ssl(3) */
SSL_CTX *opensslcmp_tls_new(OSSL_LIB_CTX *, const char *, int);
void SSL_CTX_free(SSL_CTX *);
int opensslcmp_tls_trust(SSL_CTX *, X509 *);
void opensslcmp_tls_unverified(SSL_CTX *);
int opensslcmp_tls_param(SSL_CTX *, const X509_VERIFY_PARAM *);
int opensslcmp_tls_identity(SSL_CTX *, X509 *, EVP_PKEY *);
int opensslcmp_tls_chain(SSL_CTX *, X509 *);
BIO *opensslcmp_tls_start(SSL_CTX *, BIO *, const char *, const char *, const char *);
int opensslcmp_tls_handshake(BIO *, int, opensslcmp_http_io *, int);
void opensslcmp_tls_end(BIO *);
const char *opensslcmp_tls_version(BIO *);
