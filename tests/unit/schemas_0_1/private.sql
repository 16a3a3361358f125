CREATE TABLE asked_for (
    release_id VARCHAR NOT NULL,
    person VARCHAR NOT NULL,
    PRIMARY KEY (release_id)
);

CREATE TABLE case_texts (
    case_id VARCHAR NOT NULL,
    lines INTEGER NOT NULL,
    action VARCHAR NOT NULL,
    share_painted FLOAT NOT NULL,
    PRIMARY KEY (case_id)
);

CREATE TABLE cases (
    case_id VARCHAR NOT NULL,
    patient VARCHAR NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    folder VARCHAR NOT NULL,
    PRIMARY KEY (case_id)
);

CREATE TABLE imports (
    folder VARCHAR NOT NULL,
    patients_from VARCHAR NOT NULL,
    PRIMARY KEY (folder)
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

CREATE TABLE ledger (
    seq INTEGER NOT NULL,
    at VARCHAR NOT NULL,
    study_sha256 VARCHAR(64) NOT NULL,
    kind VARCHAR NOT NULL,
    mechanism VARCHAR NOT NULL,
    patients INTEGER NOT NULL,
    subject VARCHAR NOT NULL,
    PRIMARY KEY (seq)
);

CREATE TABLE ledger_noised (
    seq INTEGER NOT NULL,
    at VARCHAR NOT NULL,
    study_sha256 VARCHAR(64) NOT NULL,
    kind VARCHAR NOT NULL,
    mechanism VARCHAR NOT NULL,
    patients INTEGER NOT NULL,
    subject VARCHAR NOT NULL,
    sigma FLOAT NOT NULL,
    q FLOAT NOT NULL,
    steps INTEGER NOT NULL,
    clip FLOAT NOT NULL,
    delta FLOAT NOT NULL,
    unit VARCHAR NOT NULL,
    relation VARCHAR NOT NULL,
    who VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    PRIMARY KEY (seq)
);

CREATE TABLE patients (
    patient VARCHAR NOT NULL,
    side VARCHAR NOT NULL,
    PRIMARY KEY (patient)
);

CREATE TABLE releases (
    release_id VARCHAR NOT NULL,
    study_sha256 VARCHAR(64) NOT NULL,
    state VARCHAR NOT NULL,
    manifest BLOB NOT NULL,
    bundle_sha256 VARCHAR(64) NOT NULL,
    report BLOB NOT NULL,
    made_by VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (release_id),
    UNIQUE (bundle_sha256)
);

CREATE TABLE scores (
    study_sha256 VARCHAR(64) NOT NULL,
    dataset_version INTEGER NOT NULL,
    arm VARCHAR NOT NULL,
    trained_on VARCHAR NOT NULL,
    n INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    patient VARCHAR NOT NULL,
    figures VARCHAR NOT NULL,
    PRIMARY KEY (study_sha256, dataset_version, arm, trained_on, n, seed, patient)
);

CREATE TABLE secret (
    name VARCHAR NOT NULL,
    value BLOB,
    PRIMARY KEY (name)
);

CREATE TABLE touched (
    release_id VARCHAR NOT NULL,
    patient VARCHAR NOT NULL,
    side VARCHAR NOT NULL,
    PRIMARY KEY (release_id, patient)
);

CREATE TABLE votes (
    seq INTEGER NOT NULL,
    release_id VARCHAR NOT NULL,
    bundle_sha256 VARCHAR(64) NOT NULL,
    person VARCHAR NOT NULL,
    at VARCHAR NOT NULL,
    PRIMARY KEY (seq),
    UNIQUE (release_id, bundle_sha256, person)
);
