/* Several C calls made in one crossing, because each crossing may wait 5 ms for the GIL. No decisions: each function is
 * the sequence that its comment names, and stops at the first failure with the reason in the error queue. */

/* OPENSSL_free is a macro. */
static void opensslcmp_free(void *pointer) { OPENSSL_free(pointer); }
