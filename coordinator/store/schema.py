"""The coordinator's tables. Every change of state is written in one transaction with its journal entry."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData, String, Table, UniqueConstraint

from shared.journal import journal_table

metadata = MetaData()

invitations = Table(
    "invitations",
    metadata,
    Column("secret_sha256", String(64), primary_key=True),
    Column("site", String, nullable=False),
    Column("expires_at", String, nullable=False),
    Column("used_at", String),
)

sites = Table(
    "sites",
    metadata,
    Column("name", String, primary_key=True),
    Column("state", String, nullable=False),  # active, revoked
    Column("certificate_serial", String, nullable=False),  # of its enrolment; renewed ones: certificates
    Column("signing_key", LargeBinary, nullable=False),
    Column("flower_key", LargeBinary, nullable=False),
    Column("node_id", String, nullable=False),
    Column("enrolled_at", String, nullable=False),
)

# Every certificate of a site that holds, the renewed ones beside that of its enrolment. By key too: a site that did not
# hear our answer asks again with the same key, and gets the same certificate.
certificates = Table(
    "certificates",
    metadata,
    Column("serial", String, primary_key=True),
    Column("site", ForeignKey("sites.name"), nullable=False),
    Column("key_sha256", String(64), nullable=False),
    Column("pem", LargeBinary, nullable=False),
    Column("issued_at", String, nullable=False),
    Column("ends_at", String, nullable=False),
    UniqueConstraint("site", "key_sha256"),
)

studies = Table(
    "studies",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("study_id", String, nullable=False, unique=True),
    Column("payload", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("published_at", String, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("study_sha256", ForeignKey("studies.sha256"), primary_key=True),
    Column("site", ForeignKey("sites.name"), primary_key=True),
    Column("state", String, nullable=False),  # queued, refused: what the site answered
    Column("code", String, nullable=False),
    Column("at", String, nullable=False),
)

bundles = Table(
    "bundles",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("study_sha256", ForeignKey("studies.sha256"), nullable=False),
    Column("site", ForeignKey("sites.name"), nullable=False),
    Column("state", String, nullable=False),  # incoming, accepted, quarantined, revoked
    Column("code", String, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("receipt", LargeBinary),
    Column("receipt_signature", LargeBinary),
    Column("at", String, nullable=False),
)

# What each bundle takes here, in bytes. Beside its row and not in it: what stands behind a manifest is read through the
# manifest, and these are added up at every Begin. No line: an earlier version of this software took the bundle in.
shares = Table(
    "shares",
    metadata,
    Column("sha256", ForeignKey("bundles.sha256"), primary_key=True),
    Column("site", ForeignKey("sites.name"), nullable=False),
    Column("objects", BigInteger, nullable=False),  # 0 once they were deleted without having been accepted
    Column("manifest", BigInteger, nullable=False),
)

# What sites took back. By site too: a site says nothing of another's bundles, also not of those that are to come.
revocations = Table(
    "revocations",
    metadata,
    Column("bundle_sha256", String(64), primary_key=True),
    Column("site", ForeignKey("sites.name"), primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("receipt", LargeBinary, nullable=False),
    Column("receipt_signature", LargeBinary, nullable=False),
    Column("at", String, nullable=False),
)

# Where the journals of a site ended when it last said so and confirmed what was held before. By certificate too: a
# site that enrolled again in a new folder has new journals. A site may state more entries than 32 bits hold.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("site", ForeignKey("sites.name"), primary_key=True),
    Column("certificate_serial", String, primary_key=True),
    Column("link_entries", BigInteger, nullable=False),
    Column("link_sha256", String(64), nullable=False),
    Column("trainer_entries", BigInteger, nullable=False),
    Column("trainer_sha256", String(64), nullable=False),
    Column("at", String, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("study_sha256", ForeignKey("studies.sha256"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("built_at", String, nullable=False),
    UniqueConstraint("study_sha256", "sha256"),
)

measurements = Table(
    "measurements",
    metadata,
    Column("measurement_id", String, primary_key=True),
    Column("study_sha256", ForeignKey("studies.sha256"), nullable=False),
    Column("dataset_version", Integer, nullable=False),
    Column("arm", String, nullable=False),
    Column("trained_on", String),
    Column("n", Integer),
    Column("seed", Integer, nullable=False),
    Column("site", ForeignKey("sites.name"), nullable=False),
    Column("state", String, nullable=False),  # done, refused
    Column("code", String, nullable=False),
    Column("metrics", String),
    Column("patients", Integer),
    Column("at", String, nullable=False),
)

# A site's newest comparison of a dataset version, and its distances from each set of pairs; or why there is none.
findings = Table(
    "findings",
    metadata,
    Column("study_sha256", ForeignKey("studies.sha256"), primary_key=True),
    Column("dataset_version", Integer, primary_key=True),
    Column("site", ForeignKey("sites.name"), primary_key=True),
    Column("kind", String, primary_key=True),  # comparison, distribution
    Column("trained_on", String, primary_key=True),  # empty for a comparison
    Column("order_id", String, nullable=False),
    Column("code", String, nullable=False),
    Column("document", LargeBinary),
    Column("at", String, nullable=False),
)

journal = journal_table(metadata)
