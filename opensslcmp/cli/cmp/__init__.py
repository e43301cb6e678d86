"""``opensslcmp cmp``: the client of ``openssl cmp`` (OpenSSL 3.5), option for option, on every OpenSSL.

A script that calls ``openssl cmp`` calls ``opensslcmp cmp`` instead. ``table`` has the options, ``arguments`` reads the
command line and the configuration file, ``sources`` what they name, ``setup`` makes a ``ClientContext`` of it, ``transfer``
carries messages and keeps them in files, ``commands`` runs the transaction, ``results`` writes the files.

It is built on OSSL_CMP_CTX like the program it stands in for, so requests are the same, byte for byte but for what is
random. What differs is that no byte of an answer reaches libcrypto before the gate has admitted it, that HTTP is ours,
and that what only OpenSSL 3.5 can do (genm of CA certificates, root updates, CRLs and templates, certProfile, revocation
by serial number) runs on 3.0 too. ``docs/openssl-cmp.md`` lists the differences.

Source: openssl-cmp(1).
"""
