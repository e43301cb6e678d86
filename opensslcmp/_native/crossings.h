/* Several C calls made in one crossing, because each crossing may wait 5 ms for the GIL. No decisions: each function is
 * the sequence that its comment names, and stops at the first failure with the reason in the error queue. */

/* OPENSSL_free is a macro. */
static void opensslcmp_free(void *pointer) { OPENSSL_free(pointer); }

/* sk_X_pop_free(3) with the elements' own free function */
static void opensslcmp_certificates_free(STACK_OF(X509) *stack) { sk_X509_pop_free(stack, X509_free); }
static void opensslcmp_extensions_free(X509_EXTENSIONS *stack) { sk_X509_EXTENSION_pop_free(stack, X509_EXTENSION_free); }
static void opensslcmp_itavs_free(STACK_OF(OSSL_CMP_ITAV) *stack) { sk_OSSL_CMP_ITAV_pop_free(stack, OSSL_CMP_ITAV_free); }
