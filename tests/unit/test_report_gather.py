"""Gathering a report from a coordinator's real records: what each answer becomes, and what is never averaged in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.datasets.build import build
from coordinator.evaluation.answers import mean_of
from coordinator.evaluation.cells import Cell, cells
from coordinator.evaluation.gather import Extras, gather
from coordinator.evaluation.plan import asked
from coordinator.evaluation.releases import Known
from coordinator.evaluation.report_data import ReportData
from coordinator.evaluation.summary import summarise
from coordinator.limits import DEFAULT
from coordinator.settings import Home, Settings
from coordinator.store.findings import Finding, add_finding
from coordinator.store.objects import ObjectStore
from coordinator.store.revocations import add_revocation
from coordinator.store.shares import Stated, begin_bundle
from coordinator.store.store import Measurement, PublishedStudy, Site, Store
from shared.bundle import bundle_sha256
from shared.documents import canonical, sign
from shared.errors import SynthwardError, public_text
from shared.findings import Comparison
from shared.identity import new_signing_key
from shared.pairs import sha256_hex
from shared.revocation import Revocation
from shared.sheets import contact_sheet
from shared.study import Study
from tests.helpers import manifest_of, noise_pair, png_objects
from tests.invented_report import comparison, distribution, invented_study, metrics, pair

SITES = ("alder", "birch")
ARMS: tuple[Any, ...] = ("real_own", "synthetic_own", "synthetic_pooled", "real_and_others")


def study_of(**evaluation: Any) -> Study:
    """A study of four arms and 32 px."""
    return invented_study(
        image={"size_px": 32}, evaluation={"arms": ARMS, "seeds": (0, 1), "per_case": (), **evaluation}
    )


@dataclass
class Records:
    """A coordinator's folder with a study, sites that released two pairs each, and a dataset version."""

    path: Path
    study: Study = field(default_factory=study_of)
    names: Sequence[str] = SITES
    releasing: Sequence[str] = SITES
    verdict: str = "passed"
    membership_auc: float | None = 0.61

    def __post_init__(self) -> None:
        self.home = Home(self.path)
        self.home.create(Settings(name="test"))
        self.store, self.objects = Store(self.home.database_url()), ObjectStore(self.home.objects_url())
        payload = canonical(self.study)
        self.published = PublishedStudy(sha256_hex(payload), payload, sign(new_signing_key(), "study", payload))
        self.store.publish(self.published, actor="operator")
        for number, name in enumerate(self.names):
            self._enrol(Site(name, "active", "1", bytes([number] * 32), b"f", number))
        for number, name in enumerate(self.releasing):
            self.release(name, number)
        build(self.store, self.published.sha256, actor="operator")

    def _enrol(self, site: Site) -> None:
        secret = sha256_hex(site.name.encode())
        self.store.invite(site.name, secret, timedelta(hours=1), actor="operator")
        self.store.enrol(secret, site)

    def release(self, name: str, number: int) -> None:
        entries, objects = png_objects([noise_pair(10 * number + seed) for seed in range(2)])
        audit = {"verdict": self.verdict, "sampled": 8, "accepted": 2, "rejected": {"copy": 5, "text": 1}, "planted": 6,
                 "planted_found": 5, "membership_auc": self.membership_auc}  # fmt: skip
        manifest = manifest_of(self.study, name, entries, training_patients=21 + number, audit=audit)
        for digest, data in objects.items():
            self.objects.put(digest, data)
        sha256 = bundle_sha256(manifest)
        size = sum(manifest.objects().values())
        stated = Stated(sha256, self.published.sha256, name, canonical(manifest), b"s", size)
        begin_bundle(self.store, stated, DEFAULT)
        self.store.accept_bundle(sha256, b"r", b"s", site=name)

    def measured(self, site: str, iou: float | None, *, seed: int = 0, code: str = "", **which: Any) -> None:
        key = {"arm": "real_own", "trained_on": None, "n": None} | which
        self.store.add_measurement(
            self.published.sha256,
            Measurement(
                measurement_id=f"{key}-{seed}", dataset_version=1, seed=seed, site=site, code=code,
                metrics=None if iou is None else metrics(iou), patients=None if iou is None else 24, **key,
            ),
        )  # fmt: skip

    def compared(self, site: str, document: bytes | None, code: str = "") -> None:
        self.found(Finding("comparison", site, None, "m-1", code, document))

    def found(self, finding: Finding) -> None:
        add_finding(self.store, self.published.sha256, 1, finding)

    def comparison(self, site: str, **changes: Any) -> Comparison:
        return comparison(self.study, site, self.releasing, patients=31).model_copy(update=changes)

    def gather(self, **options: Any) -> ReportData:
        return gather(self.store, self.objects, self.published, 0, **options)


def at(data: ReportData, site: str) -> list[Cell]:
    return [cell for cell in cells(data) if cell.site == site]


def test_every_network_of_the_study_has_a_cell_at_every_site(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.compared("alder", canonical(records.comparison("alder")))
    data = records.gather()
    planned = {(item.arm, item.trained_on, item.n) for item in asked(records.study.evaluation, SITES)}
    for name in SITES:
        assert {cell.key for cell in at(data, name)} == planned
    assert all(cell.iou is not None and cell.iou.low is not None for cell in at(data, "alder"))
    assert {cell.reason for cell in at(data, "birch")} == {"no answer yet"}
    assert any("birch" in gap for gap in summarise(data).gaps)


def test_what_the_manifests_say_of_a_release_is_in_the_report(tmp_path: Path) -> None:
    data = Records(tmp_path, verdict="inconclusive").gather(
        extras=Extras(sites={"alder": Known(cases=40, patients=30)})
    )
    alder, birch = data.sites
    assert alder.release is not None
    assert birch.release is not None
    assert (alder.release.pairs, alder.release.training_patients, alder.release.sampled) == (2, 21, 8)
    assert alder.release.rejected == {"copy": 5, "text": 1}
    assert (alder.release.planted, alder.release.planted_found, alder.release.verdict) == (6, 5, "inconclusive")
    assert alder.release.acceptance == 0.25
    assert alder.release.epsilon is None
    assert (alder.release.membership_auc, birch.release.membership_auc) == (0.61, 0.61)
    assert (alder.cases, alder.patients, birch.cases) == (40, 30, None)
    assert alder.release.sheet_png is not None
    assert data.dataset.pairs == 4
    assert data.versions["torch"]


def test_two_releases_of_one_site_are_added_up(tmp_path: Path) -> None:
    records = Records(tmp_path, membership_auc=None)
    records.membership_auc = 0.7
    records.release("alder", 5)
    build(records.store, records.published.sha256, actor="operator")
    release = records.gather().sites[0].release
    assert release is not None
    assert (release.pairs, release.sampled, release.planted, release.training_patients) == (4, 16, 12, 26)
    assert release.membership_auc == 0.7  # one told, the other did not


def test_without_a_comparison_there_are_means_over_seeds_and_no_interval(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.measured("alder", 0.4, seed=0)
    records.measured("alder", 0.6, seed=1)
    records.measured("alder", None, arm="synthetic_pooled", trained_on="pooled", code="cohort.no-holdout")
    found = {cell.key: cell for cell in at(records.gather(), "alder")}
    own = found["real_own", None, None]
    assert own.iou is not None
    assert (own.iou.mean, own.iou.low, own.seeds, own.patients) == (pytest.approx(0.5), None, 2, 24)
    assert found["synthetic_pooled", "pooled", None].reason == public_text("cohort.no-holdout")
    assert found["real_and_others", "others", None].reason == "no answer yet"


def test_a_run_that_failed_is_not_averaged_in_and_is_told(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.measured("alder", 0.4, seed=0)
    records.measured("alder", None, seed=1, code="training.diverged")
    data = records.gather()
    own = next(cell for cell in at(data, "alder") if cell.arm == "real_own")
    assert own.iou is not None
    assert (own.iou.mean, own.seeds) == (pytest.approx(0.4), 1)
    assert any("alder has fewer training runs" in gap for gap in summarise(data).gaps)


def test_a_comparison_of_some_networks_leaves_the_others_their_reasons(tmp_path: Path) -> None:
    records = Records(tmp_path)
    whole = records.comparison("alder")
    records.compared("alder", canonical(whole.model_copy(update={"arms": whole.arms[:2]})))
    records.measured("alder", None, arm="real_and_others", trained_on="others", code="training.memory")
    found = {cell.key: cell for cell in at(records.gather(), "alder")}
    assert found["real_and_others", "others", None].reason == public_text("training.memory")
    assert sum(cell.iou is not None for cell in found.values()) == 2


@pytest.mark.parametrize("wrong", ["study", "version", "arm", "seeds", "spelling", "nonsense"])
def test_a_comparison_of_something_else_gives_no_figure(tmp_path: Path, wrong: str) -> None:
    records = Records(tmp_path)
    good = records.comparison("alder")
    more = good.arms[0].model_copy(update={"seeds": 3})
    other = {
        "study": canonical(good.model_copy(update={"study_sha256": "0" * 64})),
        "version": canonical(good.model_copy(update={"dataset_version": 2})),
        "arm": canonical(good.model_copy(update={"arms": (good.arms[0].model_copy(update={"arm": "refined"}),)})),
        "seeds": canonical(good.model_copy(update={"arms": (more, *good.arms[1:])})),
        "spelling": canonical(good) + b" ",
        "nonsense": b'{"arms": NaN}',
    }
    records.compared("alder", other[wrong])
    site = records.gather().sites[0]
    assert site.comparison is None
    assert site.no_comparison
    assert all(cell.iou is None for cell in at(records.gather(), "alder"))
    records.compared("alder", canonical(good))
    assert records.gather().sites[0].comparison == good


def test_distances_are_shown_with_their_reasons_where_there_are_none(tmp_path: Path) -> None:
    records = Records(tmp_path)
    told = distribution(records.study, "alder", features=True)
    records.found(Finding("distribution", "alder", "alder", "m-2", "", canonical(told)))
    records.found(Finding("distribution", "alder", "pooled", "m-3", "", canonical(told)))  # of other pairs than asked
    records.found(Finding("distribution", "birch", "pooled", "m-4", "cohort.no-holdout", None))
    data = records.gather()
    first, other = data.sites[0].distributions
    assert first.found == told
    assert [answer.trained_on for answer in data.sites[0].distributions] == ["alder", "pooled"]
    assert other.found is None
    assert "do not belong to what was asked" in other.reason
    assert data.sites[1].distributions[0].reason == public_text("cohort.no-holdout")


def test_a_site_without_a_release_says_why(tmp_path: Path) -> None:
    records = Records(tmp_path, names=(*SITES, "cedar", "fir"), releasing=SITES)
    records.store.answered(records.published.sha256, "cedar", "refused", "policy.generator")
    sites = {site.name: site for site in records.gather().sites}
    assert sites["cedar"].no_release == public_text("policy.generator")
    assert sites["fir"].no_release == "it has not answered the study"
    gaps = " ".join(summarise(records.gather()).gaps)
    assert "cedar released nothing" in gaps
    # Nobody expects a network of pairs that were never released.
    assert not any(cell.trained_on == "cedar" for cell in cells(records.gather()))


def test_in_mode_dp_no_interval_is_missed(tmp_path: Path) -> None:
    study = study_of().model_copy(
        update={"privacy": Study.model_validate(
            study_of().model_dump() | {"privacy": {"mode": "dp", "epsilon": 2.0, "delta": 1e-5}}
        ).privacy}
    )  # fmt: skip
    records = Records(tmp_path, study=study)
    for site in SITES:
        for item in asked(study.evaluation, SITES):
            records.measured(site, 0.5, seed=item.seed, arm=item.arm, trained_on=item.trained_on)
    data = records.gather()
    assert all("readings without noise" in site.no_comparison for site in data.sites)
    assert summarise(data).gaps == ()
    assert "means without intervals" in summarise(data).headline


def test_the_sheet_of_failures_is_that_of_this_version(tmp_path: Path) -> None:
    records, folder = Records(tmp_path / "home"), tmp_path / "evaluation"
    folder.mkdir()
    assert records.gather(failures=folder).failures_png is None
    png = contact_sheet([pair()], columns=1, cell_px=32)
    (folder / "v2-failures.png").write_bytes(png)
    assert records.gather(failures=folder).failures_png is None
    (folder / "v1-failures.png").write_bytes(png)
    assert records.gather(failures=folder).failures_png == png


def test_a_version_with_a_release_that_was_taken_back_has_no_report(tmp_path: Path) -> None:
    records = Records(tmp_path)
    sha256 = records.store.bundles(records.published.sha256, "accepted")[0].sha256
    revoked = Revocation(bundle_sha256=sha256, site="alder", revoked_on=date(2027, 2, 1))
    add_revocation(records.store, revoked, canonical(revoked), b"s", (b"r", b"s"))
    with pytest.raises(SynthwardError) as caught:
        records.gather()
    assert caught.value.code == "dataset.revoked"
    # The next version has a report, which says why the site's pairs are gone.
    build(records.store, records.published.sha256, actor="operator")
    assert records.gather().sites[0].no_release == "it took its release back"


def test_the_command_writes_all_three_files_and_says_what_is_missing(tmp_path: Path) -> None:
    records = Records(tmp_path / "home")
    records.compared("alder", canonical(records.comparison("alder")))
    arguments = ["report", "polyps-2027", "--out", str(tmp_path / "out"), "--home", str(tmp_path / "home"), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [Path(path).name for path in told["files"]] == ["report.html", "report.json", "report.csv"]
    assert all(Path(path).stat().st_size > 1000 for path in told["files"])
    assert told["version"] == 1
    assert any("birch" in line for line in told["missing"])
    assert "alder" in told["headline"]
    read = ReportData.model_validate_json((tmp_path / "out" / "report.json").read_text())
    assert read.sites[0].comparison is not None
    assert CliRunner().invoke(app, ["report", "other", "--home", str(tmp_path / "home")]).exit_code == 8


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=6))
def test_a_mean_is_of_the_runs_that_answered_and_of_no_other(ious: list[float | None]) -> None:
    own = [
        Measurement("m", 1, "real_own", None, None, seed, "alder", "" if iou is not None else "training.diverged",
                    None if iou is None else metrics(iou), None if iou is None else 20)
        for seed, iou in enumerate(ious)
    ]  # fmt: skip
    means = mean_of(("real_own", None, None), "alder", own)
    told = [iou for iou in ious if iou is not None]
    assert means.seeds == len(told)
    if told:
        assert means.metrics is not None
        assert means.metrics.iou == pytest.approx(np.mean(told))
    else:
        assert means.reason == public_text("training.diverged")
