/* OSSL_CMP_log_open(3) */
static const int OSSL_CMP_LOG_EMERG;
static const int OSSL_CMP_LOG_ALERT;
static const int OSSL_CMP_LOG_CRIT;
static const int OSSL_CMP_LOG_ERR;
static const int OSSL_CMP_LOG_WARNING;
static const int OSSL_CMP_LOG_NOTICE;
static const int OSSL_CMP_LOG_INFO;
static const int OSSL_CMP_LOG_DEBUG;
static const int OSSL_CMP_LOG_TRACE;
static const int OSSL_CMP_LOG_MAX;

int OSSL_CMP_log_open(void);
void OSSL_CMP_log_close(void);
int OSSL_CMP_print_to_bio(BIO *, const char *, const char *, int, OSSL_CMP_severity, const char *);
void OSSL_CMP_print_errors_cb(OSSL_CMP_log_cb_t);
