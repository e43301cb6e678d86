/* crossings_kem.h: MACs under keys that were derived before */
int opensslcmp_keyed_mac(opensslcmp_library *, const char *, const char *, size_t, const unsigned char *, size_t,
                         const unsigned char *, size_t, const unsigned char *, size_t, unsigned char *, size_t *,
                         const unsigned char *, size_t);
