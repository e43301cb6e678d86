/* OSSL_CMP_SRV_CTX_new(3) */
OSSL_CMP_MSG *OSSL_CMP_SRV_process_request(OSSL_CMP_SRV_CTX *, const OSSL_CMP_MSG *);
OSSL_CMP_MSG *OSSL_CMP_CTX_server_perform(OSSL_CMP_CTX *, const OSSL_CMP_MSG *);
OSSL_CMP_SRV_CTX *OSSL_CMP_SRV_CTX_new(OSSL_LIB_CTX *, const char *);
void OSSL_CMP_SRV_CTX_free(OSSL_CMP_SRV_CTX *);
int OSSL_CMP_SRV_CTX_init(OSSL_CMP_SRV_CTX *, void *, OSSL_CMP_SRV_cert_request_cb_t, OSSL_CMP_SRV_rr_cb_t, OSSL_CMP_SRV_genm_cb_t, OSSL_CMP_SRV_error_cb_t, OSSL_CMP_SRV_certConf_cb_t, OSSL_CMP_SRV_pollReq_cb_t);
int OSSL_CMP_SRV_CTX_init_trans(OSSL_CMP_SRV_CTX *, OSSL_CMP_SRV_delayed_delivery_cb_t, OSSL_CMP_SRV_clean_transaction_cb_t);
OSSL_CMP_CTX *OSSL_CMP_SRV_CTX_get0_cmp_ctx(const OSSL_CMP_SRV_CTX *);
void *OSSL_CMP_SRV_CTX_get0_custom_ctx(const OSSL_CMP_SRV_CTX *);
int OSSL_CMP_SRV_CTX_set_send_unprotected_errors(OSSL_CMP_SRV_CTX *, int);
int OSSL_CMP_SRV_CTX_set_accept_unprotected(OSSL_CMP_SRV_CTX *, int);
int OSSL_CMP_SRV_CTX_set_accept_raverified(OSSL_CMP_SRV_CTX *, int);
int OSSL_CMP_SRV_CTX_set_grant_implicit_confirm(OSSL_CMP_SRV_CTX *, int);

int opensslcmp_process(OSSL_CMP_SRV_CTX *, const unsigned char *, long, unsigned char **);
