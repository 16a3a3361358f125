CREATE TABLE invitations (
    secret_sha256 VARCHAR(64) NOT NULL,
    site VARCHAR NOT NULL,
    expires_at VARCHAR NOT NULL,
    used_at VARCHAR,
    PRIMARY KEY (secret_sha256)
);

CREATE TABLE journal (
    seq INTEGER NOT NULL,
    at VARCHAR NOT NULL,
    actor VARCHAR NOT NULL,
    action VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    detail VARCHAR NOT NULL,
    previous VARCHAR(64) NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    PRIMARY KEY (seq),
    UNIQUE (sha256)
);

CREATE TABLE sites (
    name VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    certificate_serial VARCHAR NOT NULL,
    signing_key BLOB NOT NULL,
    flower_key BLOB NOT NULL,
    node_id VARCHAR NOT NULL,
    enrolled_at VARCHAR NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE studies (
    sha256 VARCHAR(64) NOT NULL,
    study_id VARCHAR NOT NULL,
    payload BLOB NOT NULL,
    signature BLOB NOT NULL,
    published_at VARCHAR NOT NULL,
    PRIMARY KEY (sha256),
    UNIQUE (study_id)
);

CREATE TABLE bundles (
    sha256 VARCHAR(64) NOT NULL,
    study_sha256 VARCHAR(64) NOT NULL,
    site VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    code VARCHAR NOT NULL,
    manifest BLOB NOT NULL,
    signature BLOB NOT NULL,
    receipt BLOB,
    receipt_signature BLOB,
    at VARCHAR NOT NULL,
    PRIMARY KEY (sha256),
    FOREIGN KEY(study_sha256) REFERENCES studies (sha256),
    FOREIGN KEY(site) REFERENCES sites (name)
);

CREATE TABLE certificates (
    serial VARCHAR NOT NULL,
    site VARCHAR NOT NULL,
    key_sha256 VARCHAR(64) NOT NULL,
    pem BLOB NOT NULL,
    issued_at VARCHAR NOT NULL,
    ends_at VARCHAR NOT NULL,
    PRIMARY KEY (serial),
    UNIQUE (site, key_sha256),
    FOREIGN KEY(site) REFERENCES sites (name)
);

CREATE TABLE checkpoints (
    site VARCHAR NOT NULL,
    certificate_serial VARCHAR NOT NULL,
    link_entries BIGINT NOT NULL,
    link_sha256 VARCHAR(64) NOT NULL,
    trainer_entries BIGINT NOT NULL,
    trainer_sha256 VARCHAR(64) NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (site, certificate_serial),
    FOREIGN KEY(site) REFERENCES sites (name)
);

CREATE TABLE datasets (
    study_sha256 VARCHAR(64) NOT NULL,
    version INTEGER NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    payload BLOB NOT NULL,
    built_at VARCHAR NOT NULL,
    PRIMARY KEY (study_sha256, version),
    UNIQUE (study_sha256, sha256),
    FOREIGN KEY(study_sha256) REFERENCES studies (sha256)
);

CREATE TABLE deliveries (
    study_sha256 VARCHAR(64) NOT NULL,
    site VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    code VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (study_sha256, site),
    FOREIGN KEY(study_sha256) REFERENCES studies (sha256),
    FOREIGN KEY(site) REFERENCES sites (name)
);

CREATE TABLE findings (
    study_sha256 VARCHAR(64) NOT NULL,
    dataset_version INTEGER NOT NULL,
    site VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    trained_on VARCHAR NOT NULL,
    order_id VARCHAR NOT NULL,
    code VARCHAR NOT NULL,
    document BLOB,
    at VARCHAR NOT NULL,
    PRIMARY KEY (study_sha256, dataset_version, site, kind, trained_on),
    FOREIGN KEY(study_sha256) REFERENCES studies (sha256),
    FOREIGN KEY(site) REFERENCES sites (name)
);

CREATE TABLE measurements (
    measurement_id VARCHAR NOT NULL,
    study_sha256 VARCHAR(64) NOT NULL,
    dataset_version INTEGER NOT NULL,
    arm VARCHAR NOT NULL,
    trained_on VARCHAR,
    n INTEGER,
    seed INTEGER NOT NULL,
    site VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    code VARCHAR NOT NULL,
    metrics VARCHAR,
    patients INTEGER,
    at VARCHAR NOT NULL,
    PRIMARY KEY (measurement_id),
    FOREIGN KEY(study_sha256) REFERENCES studies (sha256),
    FOREIGN KEY(site) REFERENCES sites (name)
);

CREATE TABLE revocations (
    bundle_sha256 VARCHAR(64) NOT NULL,
    site VARCHAR NOT NULL,
    payload BLOB NOT NULL,
    signature BLOB NOT NULL,
    receipt BLOB NOT NULL,
    receipt_signature BLOB NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (bundle_sha256, site),
    FOREIGN KEY(site) REFERENCES sites (name)
);
