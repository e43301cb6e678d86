/* HTTP(S) on a connected, non-blocking socket: one crossing writes a request, waits and reads what is there. No parsing
 * here: HTTP is read in Python, where a peer's bytes cannot hurt. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
# define MSG_NOSIGNAL 0
#endif

#define OPENSSLCMP_HTTP_FAILED (-1)
#define OPENSSLCMP_HTTP_CLOSED 0
#define OPENSSLCMP_HTTP_DATA 1
#define OPENSSLCMP_HTTP_WANTS_READ 2
#define OPENSSLCMP_HTTP_WANTS_WRITE 3

/* What one crossing brings back. The caller makes it: nothing here is shared between calls. */
typedef struct {
    size_t sent; /* bytes of the request that are sent; set before the first call */
    size_t got;  /* bytes in data */
    int error;   /* errno, or 0 when the error queue tells more */
    long verify; /* SSL_get_verify_result(3) */
    char data[65536];
} opensslcmp_http_io;

/* A BIO over a socket that owns it. BIO_s_socket(3) writes with write(2), which raises SIGPIPE when the server has closed
 * the idle connection, and a program that set SIGPIPE to its default would die of it. */
typedef struct {
    int fd;
    int error; /* errno of the last read or write that failed */
    int ended; /* the peer has closed its side */
} opensslcmp_socket;

static int opensslcmp_socket_again(BIO *bio, opensslcmp_socket *socket, int flags)
{
    if (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)
        BIO_set_flags(bio, flags | BIO_FLAGS_SHOULD_RETRY);
    else
        socket->error = errno;
    return -1;
}

static int opensslcmp_socket_write(BIO *bio, const char *data, int length)
{
    opensslcmp_socket *socket = BIO_get_data(bio);
    ssize_t done = send(socket->fd, data, (size_t)length, MSG_NOSIGNAL);

    BIO_clear_retry_flags(bio);
    return done >= 0 ? (int)done : opensslcmp_socket_again(bio, socket, BIO_FLAGS_WRITE);
}

static int opensslcmp_socket_read(BIO *bio, char *data, int length)
{
    opensslcmp_socket *socket = BIO_get_data(bio);
    ssize_t done = recv(socket->fd, data, (size_t)length, 0);

    BIO_clear_retry_flags(bio);
    if (done == 0)
        socket->ended = 1;
    return done >= 0 ? (int)done : opensslcmp_socket_again(bio, socket, BIO_FLAGS_READ);
}

static long opensslcmp_socket_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_EOF) {
        opensslcmp_socket *socket = BIO_get_data(bio);

        return socket->ended;
    }
    return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static int opensslcmp_socket_destroy(BIO *bio)
{
    opensslcmp_socket *socket = BIO_get_data(bio);

    if (socket != NULL) {
        close(socket->fd);
        OPENSSL_free(socket);
        BIO_set_data(bio, NULL);
    }
    return 1;
}

/* BIO_meth_new(3): made once, by the importing thread, and kept. */
static const BIO_METHOD *opensslcmp_socket_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "opensslcmp socket");

    if (method == NULL || !BIO_meth_set_write(method, opensslcmp_socket_write)
        || !BIO_meth_set_read(method, opensslcmp_socket_read) || !BIO_meth_set_ctrl(method, opensslcmp_socket_ctrl)
        || !BIO_meth_set_destroy(method, opensslcmp_socket_destroy)) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}

/* Owns fd from success on. */
static BIO *opensslcmp_socket_new(const BIO_METHOD *method, int fd)
{
    opensslcmp_socket *socket = OPENSSL_zalloc(sizeof(*socket));
    BIO *bio = socket == NULL ? NULL : BIO_new(method);

    if (bio == NULL) {
        OPENSSL_free(socket);
        return NULL;
    }
#ifdef SO_NOSIGPIPE
    {
        int on = 1;

        (void)setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
    }
#endif
    socket->fd = fd;
    BIO_set_data(bio, socket);
    BIO_set_shutdown(bio, 1);
    BIO_set_init(bio, 1);
    return bio;
}

static long long opensslcmp_milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* After a call on bio that should be retried: wait until `until`. 0: ready, else what to wait for. A signal ends the wait,
 * so that Python can run its handler. */
static int opensslcmp_http_wait(BIO *bio, int fd, int patience_ms, long long until)
{
    int wants = BIO_should_write(bio) ? OPENSSLCMP_HTTP_WANTS_WRITE : OPENSSLCMP_HTTP_WANTS_READ;
    struct pollfd pollfd = { fd, wants == OPENSSLCMP_HTTP_WANTS_WRITE ? POLLOUT : POLLIN, 0 };
    long long left = patience_ms > 0 ? until - opensslcmp_milliseconds() : 0;

    return left > 0 && poll(&pollfd, 1, (int)left) > 0 ? 0 : wants;
}

/* BIO_write(3) until all of out is sent, then BIO_read(3), waiting at most patience_ms in all. With no patience it does not
 * try to read what cannot be there yet. check_idle: the connection has idled; CLOSED when it ended or said anything. */
static int opensslcmp_http_step(BIO *bio, int fd, opensslcmp_http_io *io, const char *out, size_t out_length, int check_idle,
                                int patience_ms)
{
    opensslcmp_socket *socket = BIO_get_data(BIO_next(bio) == NULL ? bio : BIO_next(bio)); /* below BIO_f_ssl(3) */
    long long until = patience_ms > 0 ? opensslcmp_milliseconds() + patience_ms : 0;
    int done, unsendable = 0, wants, writing = io->sent < out_length;

    ERR_clear_error();
    io->got = 0;
    io->error = 0;
    socket->error = 0;
    if (check_idle && (BIO_read(bio, io->data, 1) > 0 || !BIO_should_retry(bio))) {
        ERR_clear_error();
        return OPENSSLCMP_HTTP_CLOSED;
    }
    for (;;) {
        if (io->sent < out_length && !unsendable) {
            size_t rest = out_length - io->sent;

            done = BIO_write(bio, out + io->sent, rest > INT_MAX ? INT_MAX : (int)rest);
            if (done > 0) {
                io->sent += (size_t)done;
                continue;
            }
            if (!BIO_should_retry(bio)) { /* the server may have answered before it closed */
                unsendable = 1;
                io->error = socket->error;
                socket->error = 0;
                ERR_clear_error();
                continue;
            }
        } else {
            if (writing && patience_ms <= 0 && !unsendable)
                return OPENSSLCMP_HTTP_WANTS_READ;
            done = BIO_read(bio, io->data, sizeof(io->data));
            if (done > 0) {
                do
                    io->got += (size_t)done;
                while (io->got < sizeof(io->data) && BIO_pending(bio) > 0
                       && (done = BIO_read(bio, io->data + io->got, (int)(sizeof(io->data) - io->got))) > 0);
                ERR_clear_error();
                return OPENSSLCMP_HTTP_DATA;
            }
            if (unsendable) {
                if (socket->error == 0 && ERR_peek_error() != 0)
                    io->error = 0; /* an alert that says why */
                return OPENSSLCMP_HTTP_FAILED;
            }
            if (!BIO_should_retry(bio)) {
                io->error = socket->error;
                /* BIO_f_ssl(3) says 0 for close_notify; an end without one is an error in the queue. */
                return done == 0 && socket->error == 0 && ERR_peek_error() == 0 ? OPENSSLCMP_HTTP_CLOSED
                                                                               : OPENSSLCMP_HTTP_FAILED;
            }
        }
        if ((wants = opensslcmp_http_wait(bio, fd, patience_ms, until)) != 0)
            return wants;
    }
}

/* SSL_CTX_new(3): verifies the peer, TLS 1.2 or newer, no compression, no renegotiation; system: the system's trust. */
static SSL_CTX *opensslcmp_tls_new(OSSL_LIB_CTX *libctx, const char *propq, int system)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(libctx, propq, TLS_client_method());

    if (ctx == NULL)
        return NULL;
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (!SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) || (system && !SSL_CTX_set_default_verify_paths(ctx))) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

static int opensslcmp_tls_trust(SSL_CTX *ctx, X509 *certificate)
{
    return X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), certificate);
}

static void opensslcmp_tls_unverified(SSL_CTX *ctx) { SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL); }

/* X509_STORE_set1_param(3): what paths to the trusted certificates must be like */
static int opensslcmp_tls_param(SSL_CTX *ctx, const X509_VERIFY_PARAM *param)
{
    return X509_STORE_set1_param(SSL_CTX_get_cert_store(ctx), param);
}

/* SSL_CTX_use_certificate(3), SSL_CTX_use_PrivateKey(3), SSL_CTX_check_private_key(3) */
static int opensslcmp_tls_identity(SSL_CTX *ctx, X509 *certificate, EVP_PKEY *key)
{
    return SSL_CTX_use_certificate(ctx, certificate) && SSL_CTX_use_PrivateKey(ctx, key) && SSL_CTX_check_private_key(ctx);
}

static int opensslcmp_tls_chain(SSL_CTX *ctx, X509 *certificate)
{
    return (int)SSL_CTX_add1_chain_cert(ctx, certificate);
}

/* BIO_f_ssl(3) in front of bio. sni: sent as server_name; host or ip: what the certificate must be for (NULL: not checked).
 * Quiet until closed on purpose: BIO_free(3) would send close_notify, also in a forked child. */
static BIO *opensslcmp_tls_start(SSL_CTX *ctx, BIO *bio, const char *sni, const char *host, const char *ip)
{
    BIO *tls = BIO_new_ssl(ctx, 1), *chain;
    SSL *ssl = NULL;

    if (tls == NULL)
        return NULL;
    BIO_get_ssl(tls, &ssl);
    SSL_set_quiet_shutdown(ssl, 1);
    if (host != NULL)
        X509_VERIFY_PARAM_set_hostflags(SSL_get0_param(ssl), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if ((sni != NULL && !SSL_set_tlsext_host_name(ssl, sni)) || (host != NULL && !SSL_set1_host(ssl, host))
        || (ip != NULL && !X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), ip))
        || (chain = BIO_push(tls, bio)) == NULL) {
        BIO_free(tls);
        return NULL;
    }
    return chain;
}

/* SSL_do_handshake(3) on the chain; CLOSED never. */
static int opensslcmp_tls_handshake(BIO *bio, int fd, opensslcmp_http_io *io, int patience_ms)
{
    opensslcmp_socket *socket = BIO_get_data(BIO_next(bio));
    long long until = patience_ms > 0 ? opensslcmp_milliseconds() + patience_ms : 0;
    SSL *ssl = NULL;
    int wants;

    ERR_clear_error();
    BIO_get_ssl(bio, &ssl);
    io->verify = X509_V_OK;
    io->error = 0;
    socket->error = 0;
    for (;;) {
        if (BIO_do_handshake(bio) > 0) {
            ERR_clear_error();
            return OPENSSLCMP_HTTP_DATA;
        }
        if (!BIO_should_retry(bio)) {
            io->verify = SSL_get_verify_result(ssl);
            io->error = socket->error;
            return OPENSSLCMP_HTTP_FAILED;
        }
        if ((wants = opensslcmp_http_wait(bio, fd, patience_ms, until)) != 0)
            return wants;
    }
}

/* Let BIO_free_all(3) send close_notify. */
static void opensslcmp_tls_end(BIO *bio)
{
    SSL *ssl = NULL;

    if (BIO_get_ssl(bio, &ssl) > 0 && ssl != NULL)
        SSL_set_quiet_shutdown(ssl, 0);
}

static const char *opensslcmp_tls_version(BIO *bio)
{
    SSL *ssl = NULL;

    BIO_get_ssl(bio, &ssl);
    return SSL_get_version(ssl);
}
