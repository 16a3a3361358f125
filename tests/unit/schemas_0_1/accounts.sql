CREATE TABLE steward_accounts (
    name VARCHAR NOT NULL,
    password VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE steward_attempts (
    seq INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    at_s FLOAT NOT NULL,
    PRIMARY KEY (seq)
);

CREATE TABLE steward_sessions (
    token_sha256 VARCHAR(64) NOT NULL,
    name VARCHAR NOT NULL,
    begun_s FLOAT NOT NULL,
    seen_s FLOAT NOT NULL,
    PRIMARY KEY (token_sha256)
);

CREATE TABLE steward_opened (
    token_sha256 VARCHAR(64) NOT NULL,
    release_id VARCHAR NOT NULL,
    bundle_sha256 VARCHAR(64) NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (token_sha256, release_id, bundle_sha256),
    FOREIGN KEY(token_sha256) REFERENCES steward_sessions (token_sha256) ON DELETE CASCADE
);
