"""The demo's study and its sites' policy: small numbers, said aloud, and nothing that a real site should copy."""

from __future__ import annotations

import argparse
import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.study import Study

STEWARD = "demo-steward"
MIN_PATIENTS = 3
MIN_HOLDOUT_PATIENTS = 2
# Limits that rest on four hold-out patients are rough, and so is what they let through.
CONTROL_FLOOR, PART_CONTROL_FLOOR = 0.8, 0.0
# Four networks train at once on one machine; with drawn images, half the batch keeps all of them under 4 GB.
BATCH_REAL, BATCH_DRAWN = 16, 8


def write_study(path: Path, options: argparse.Namespace) -> Study:
    """Writes study.toml, the file that an operator would write, and returns what it says."""
    closes = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    path.write_text(
        f"""\
study_id = "demo"
title = "Lesion segmentation across {max(3, len(options.data))} sites"
purpose = "Would a hospital's segmentation be better with what the others can share?"
closes = "{closes.isoformat()}"

[image]
size_px = {options.size}

[generator]
kind = "{options.generator}"
preset = "{options.preset}"
samples_per_case = {options.samples}

[release]
min_patients = {MIN_PATIENTS}

[evaluation]
seeds = [0]
steps = {options.steps}
batch_size = {BATCH_REAL if options.data else BATCH_DRAWN}
""",
        encoding="utf-8",
    )
    return Study.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


def demo_policy(path: Path) -> None:
    """Names the demo's steward and lowers the floors, as an administrator would: in the file."""
    changes = {
        "stewards": f'["{STEWARD}"]',
        "min_patients": str(MIN_PATIENTS),
        "min_holdout_patients": str(MIN_HOLDOUT_PATIENTS),
        "generators": '["cohort", "per_case"]',
        # A dozen cases a site are too few for any verdict.
        "inconclusive_because": '"a demonstration, on images that are drawn or public"',
        "control_floor": str(CONTROL_FLOOR),
        "part_control_floor": str(PART_CONTROL_FLOOR),
    }
    text = path.read_text(encoding="utf-8")
    for key, value in changes.items():
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
