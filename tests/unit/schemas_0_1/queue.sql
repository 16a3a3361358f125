CREATE TABLE egress (
    kind VARCHAR NOT NULL,
    bytes INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (kind)
);

CREATE TABLE heads (
    name VARCHAR NOT NULL,
    entries INTEGER NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    payload BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE jobs (
    job_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    study_sha256 VARCHAR(64) NOT NULL,
    payload VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,
    code VARCHAR NOT NULL,
    result VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (job_id)
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

CREATE TABLE outbox (
    bundle_sha256 VARCHAR(64) NOT NULL,
    state VARCHAR NOT NULL,
    code VARCHAR NOT NULL,
    receipt BLOB,
    signature BLOB,
    at VARCHAR NOT NULL,
    PRIMARY KEY (bundle_sha256)
);

CREATE TABLE revocations (
    bundle_sha256 VARCHAR(64) NOT NULL,
    payload BLOB NOT NULL,
    signature BLOB NOT NULL,
    code VARCHAR NOT NULL,
    receipt BLOB,
    receipt_signature BLOB,
    at VARCHAR NOT NULL,
    PRIMARY KEY (bundle_sha256)
);

CREATE TABLE studies (
    sha256 VARCHAR(64) NOT NULL,
    study_id VARCHAR NOT NULL,
    payload BLOB NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (sha256),
    UNIQUE (study_id)
);
