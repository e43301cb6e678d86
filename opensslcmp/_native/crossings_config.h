/* Configuration files and certificate verification parameters. */

/* NCONF_new(3), NCONF_load(3): line is that of an error, or 0 */
static CONF *opensslcmp_config_load(const char *path, long *line)
{
    CONF *conf = NCONF_new(NULL);

    *line = 0;
    if (conf != NULL && !NCONF_load(conf, path, line)) {
        NCONF_free(conf);
        return NULL;
    }
    return conf;
}

static int opensslcmp_config_has(const CONF *conf, const char *section)
{
    return NCONF_get_section(conf, section) != NULL;
}

/* X509V3_set_ctx(3), X509V3_EXT_add_nconf_sk: the extensions that a section tells; csr: whose key "hash" means, or NULL */
static X509_EXTENSIONS *opensslcmp_config_extensions(CONF *conf, const char *section, X509_REQ *csr)
{
    X509_EXTENSIONS *extensions = sk_X509_EXTENSION_new_null();
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, NULL, NULL, csr, NULL, X509V3_CTX_REPLACE);
    X509V3_set_nconf(&ctx, conf);
    if (extensions != NULL && !X509V3_EXT_add_nconf_sk(conf, &ctx, section, &extensions)) {
        opensslcmp_extensions_free(extensions);
        return NULL;
    }
    return extensions;
}

/* X509_PURPOSE_get_by_sname(3), X509_PURPOSE_get_id(3): -1 for an unknown one */
static int opensslcmp_purpose(const char *name)
{
    int index = X509_PURPOSE_get_by_sname(name);

    return index < 0 ? -1 : X509_PURPOSE_get_id(X509_PURPOSE_get0(index));
}
