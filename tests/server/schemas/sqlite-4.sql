-- A database of schema version 3, as it was released.
CREATE TABLE answers (
    transaction_id BLOB NOT NULL,
    request_hash BLOB NOT NULL,
    response BLOB NOT NULL,
    PRIMARY KEY (transaction_id, request_hash)
);
CREATE TABLE applications (
    id VARCHAR NOT NULL,
    transaction_id BLOB NOT NULL,
    kind INTEGER NOT NULL,
    subject VARCHAR NOT NULL,
    names VARCHAR NOT NULL,
    key_hash VARCHAR NOT NULL,
    requester VARCHAR NOT NULL,
    address VARCHAR,
    filed_at FLOAT NOT NULL,
    expires FLOAT NOT NULL,
    approved INTEGER,
    reason VARCHAR NOT NULL,
    decided_at FLOAT,
    label VARCHAR,
    profile VARCHAR,
    PRIMARY KEY (id)
);
CREATE INDEX ix_applications_expires ON applications (expires);
CREATE TABLE certificates (
    "key" BLOB NOT NULL,
    serial_number VARCHAR NOT NULL,
    certificate BLOB NOT NULL,
    key_and_subject BLOB NOT NULL,
    state INTEGER NOT NULL,
    identity BLOB NOT NULL,
    transaction_id BLOB NOT NULL,
    issued_at FLOAT NOT NULL,
    not_after FLOAT NOT NULL,
    updates BLOB,
    PRIMARY KEY ("key")
);
CREATE INDEX certificates_issued ON certificates (issued_at, "key");
CREATE INDEX certificates_not_after ON certificates (not_after);
CREATE INDEX certificates_updates ON certificates (updates) WHERE updates IS NOT NULL;
CREATE INDEX ix_certificates_key_and_subject ON certificates (key_and_subject);
CREATE TABLE numbers (
    name VARCHAR NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE publications (
    name VARCHAR NOT NULL,
    number INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    made_at FLOAT NOT NULL,
    good_until FLOAT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE revocations (
    "key" BLOB NOT NULL,
    serial_number VARCHAR NOT NULL,
    reason INTEGER NOT NULL,
    at FLOAT NOT NULL,
    not_after FLOAT NOT NULL,
    "before" INTEGER DEFAULT '1' NOT NULL,
    PRIMARY KEY ("key")
);
CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE secrets (
    reference BLOB NOT NULL,
    sealed BLOB NOT NULL,
    single_use INTEGER NOT NULL,
    used_at FLOAT,
    created_at FLOAT NOT NULL,
    subject VARCHAR,
    profiles VARCHAR DEFAULT '[]' NOT NULL,
    previous BLOB,
    previous_until FLOAT DEFAULT '0' NOT NULL,
    PRIMARY KEY (reference)
);
CREATE TABLE transactions (
    transaction_id BLOB NOT NULL,
    identity BLOB NOT NULL,
    algorithm VARCHAR NOT NULL,
    body_type INTEGER NOT NULL,
    state INTEGER NOT NULL,
    nonce BLOB NOT NULL,
    nonces BLOB NOT NULL,
    certificates VARCHAR NOT NULL,
    deadline FLOAT NOT NULL,
    expires FLOAT NOT NULL,
    request BLOB,
    pending BLOB,
    version INTEGER NOT NULL,
    label VARCHAR,
    PRIMARY KEY (transaction_id)
);
CREATE INDEX transactions_closed ON transactions (expires) WHERE state > 1;
CREATE INDEX transactions_deadline ON transactions (deadline) WHERE state <= 1;
CREATE INDEX transactions_open ON transactions (identity, deadline) WHERE state <= 1;
INSERT INTO answers VALUES (x'01010101010101010101010101010101', x'6868686868686868686868686868686868686868686868686868686868686868', x'616e73776572');
INSERT INTO applications VALUES ('a1', x'74747474747474747474747474747474', 0, 'CN=x', '', '00', 'x', NULL, 1000000.0, 1000099.0, NULL, '', NULL, NULL, NULL);
INSERT INTO certificates VALUES (x'6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b', '5', x'6365727469666963617465', x'6b736b736b736b736b736b736b736b736b736b736b736b736b736b736b736b73', 4, x'6d61633a78', x'01010101010101010101010101010101', 1000000.0, 2000000.0, NULL);
INSERT INTO numbers VALUES ('revocations', 1);
INSERT INTO publications VALUES ('crl', 1, 1, 1000002.0, 1600000.0, x'63726c');
INSERT INTO revocations VALUES (x'6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b', '5', 1, 1000001.0, 2000000.0, 1);
INSERT INTO schema_version VALUES (3);
INSERT INTO secrets VALUES (x'72', x'7365616c6564', 1, NULL, 1000000.0, NULL, '[]', NULL, 0.0);
INSERT INTO transactions VALUES (x'01010101010101010101010101010101', x'6d61633a78', '1.2.840.113533.7.66.13', 0, 1, x'6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e', x'6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d', '[[0, "6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b"]]', 1000010.0, 1000100.0, NULL, NULL, 1, NULL);
INSERT INTO transactions VALUES (x'02020202020202020202020202020202', x'6d61633a78', '1.2.840.113533.7.66.13', 0, 3, x'6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e', x'6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d6d', '[]', 0.0, 1000100.0, NULL, NULL, 2, NULL);
ALTER TABLE transactions ADD COLUMN answers BLOB DEFAULT '' NOT NULL;
DROP INDEX transactions_deadline;
UPDATE schema_version SET version = 4;
