"""Sites for tests: a set-up folder with keys and a membership, without a coordinator to enrol with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.documents import canonical, sign
from shared.identity import new_signing_key, public_bytes, save_key
from shared.study import Study
from site_node.policy import Policy, write_policy
from site_node.settings import Home, Membership, Settings

STEWARD = "ada"
LENIENT = Policy(
    inconclusive_because="a test, on drawn images",
    control_floor=0.0,
    part_control_floor=0.0,
    stewards=(STEWARD,),
    min_patients=2,
    min_holdout_patients=1,
)


def make_site(folder: Path, coordinator: Ed25519PrivateKey, *, name: str = "north", policy: Policy = LENIENT) -> Home:
    """A site that has enrolled with whoever holds the coordinator's key."""
    home = Home(folder)
    home.create(Settings())
    save_key(home.seal_keys / "signing.key", new_signing_key())
    write_policy(home.policy_file, policy)
    home.join(
        Membership(
            site=name,
            releases_address="127.0.0.1:1",
            fleet_address="127.0.0.1:1",
            coordinator_key=public_bytes(coordinator.public_key()).hex(),
        )
    )
    return home


def make_study(**changes: object) -> Study:
    """A small study that is open for a day."""
    values: dict[str, object] = {
        "study_id": "trial",
        "title": "A trial",
        "closes": datetime.now(UTC).replace(microsecond=0) + timedelta(days=1),
        "generator": {"preset": "demo", "samples_per_case": 2},
        "release": {"min_patients": 2},
        "evaluation": {"steps": 2},
    }
    return Study.model_validate(values | changes)


def signed(key: Ed25519PrivateKey, study: Study) -> tuple[bytes, bytes]:
    """(canonical JSON, signature) of a study."""
    payload = canonical(study)
    return payload, sign(key, "study", payload)
