"""The report: complete in itself, escaped, and careful about what its figures carry."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coordinator.evaluation.chance import FEW_PATIENTS, standing
from coordinator.evaluation.charts.axes import Axis, count_axis, epsilon_axis, gain_axis, share_axis
from coordinator.evaluation.charts.colour import contrast, shade
from coordinator.evaluation.report import render, write_report
from coordinator.evaluation.report_data import (
    DistributionAnswer,
    Means,
    ReportData,
    RunData,
    SiteData,
)
from coordinator.evaluation.summary import summarise
from coordinator.evaluation.tables import COLUMNS, csv_text
from coordinator.evaluation.words import METRIC_WORDS, duration, signed
from shared.documents import digest
from shared.findings import Comparison, Gain
from shared.metrics import NAMES
from shared.study import Study
from tests.invented_report import arm_figures, invented, invented_study, metrics, release, without_comparison

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"
VOID = {"meta", "img", "br", "circle", "path", "line"}
PLACES = ("x", "y", "x1", "x2", "y1", "y2", "width", "height")
SMALL: dict[str, Any] = {"arms": ("real_own", "synthetic_own", "synthetic_pooled", "real_and_others")}


class Reader(HTMLParser):
    """Tags, attributes and text of a page; fails where a tag is closed that was not open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def compared(study: Study, gains: dict[str, float], *, patients: int = 40, seeds: int = 3, spread: float = 0.04) -> Any:
    """A comparison of own real images with arms that gain so much."""
    own = {"synthetic_pooled": "pooled", "real_and_others": "others", "refined": "pooled"}
    lines = [arm_figures("real_own", 0.5, seeds=seeds)]
    for arm, gain in gains.items():
        lines.append(
            arm_figures(
                arm, 0.5 + gain, trained_on=own.get(arm), seeds=seeds, gain=gain, gain_spread=spread,  # type: ignore[arg-type]
            )
        )  # fmt: skip
    return Comparison(
        study_sha256=digest(study), dataset_version=1, reference="real_own", patients=patients, resamples=1000,
        arms=tuple(lines),
    )  # fmt: skip


def one_site(found: Any, **changes: Any) -> ReportData:
    """A report on alder alone, with this comparison."""
    study = invented_study(evaluation=SMALL)
    site = SiteData(
        name="alder", holdout_patients=found.patients, release=release(), comparison=found,
        distributions=(DistributionAnswer(trained_on="alder", reason="late"),),
    )  # fmt: skip
    return invented(1, study=study, run=None, sites=(site,), **changes)


def test_the_report_asks_for_nothing_and_runs_nothing() -> None:
    page = render(invented(2))
    reader = Reader(page)
    assert not re.search(r"https?://|@import|url\(", page)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base", "a"} & {tag for tag, _ in reader.tags}
    for _, attributes in reader.tags:
        assert not any(name.startswith("on") or name in {"href", "srcset", "xlink:href"} for name in attributes)
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in reader.of("img"))
    policy = next(m["content"] for m in reader.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_hostile_text_is_shown_and_never_becomes_a_tag() -> None:
    # Text of every field in which somebody else could have written.
    study = invented_study(title=HOSTILE, purpose=HOSTILE, evaluation=SMALL)
    site = SiteData(
        name=HOSTILE,
        release=release(
            approved_by=(HOSTILE,), privacy_label=HOSTILE, privacy_sentences=(HOSTILE,), rejected={HOSTILE: 1},
            software=(HOSTILE,),
        ),
        no_comparison=HOSTILE,
        distributions=(DistributionAnswer(trained_on=HOSTILE, reason=HOSTILE),),
    )  # fmt: skip
    page = render(
        invented(
            1, study=study, sites=(site, SiteData(name="birch", no_release=HOSTILE, no_comparison=HOSTILE)),
            means=(Means(arm="synthetic_own", trained_on=HOSTILE, site=HOSTILE, reason=HOSTILE),
                   Means(arm="real_own", site=HOSTILE, seeds=1, metrics=metrics(0.5))),
            notes=(HOSTILE,), versions={HOSTILE: HOSTILE},
            run=RunData(egress={HOSTILE: {HOSTILE: 1}}, seconds={HOSTILE: 1.0}, peak_rss_mb={HOSTILE: 1.0}),
        )
    )  # fmt: skip
    reader = Reader(page)
    assert not reader.of("script")
    assert len(reader.of("img")) == 1
    assert all("onerror" not in attributes for _, attributes in reader.tags)
    assert reader.text.count(HOSTILE) >= 16


def test_the_headline_tells_each_sites_gain_with_its_interval() -> None:
    study = invented_study(evaluation=SMALL)
    headline = summarise(one_site(compared(study, {"real_and_others": 0.06, "synthetic_pooled": -0.1}))).headline
    assert headline.startswith("Adding the other sites' synthetic pairs to a site's own real images changed")
    assert "by +0.060 (95 % interval +0.020 to +0.100) at alder, beyond chance." in headline
    assert headline.count(". ") == 0  # one sentence


def test_what_is_the_same_at_all_sites_is_said_once() -> None:
    study = invented_study(evaluation=SMALL)
    found = compared(study, {"real_and_others": 0.06})
    same, other = found.model_copy(update={"patients": 3}), found.model_copy(update={"patients": 40})
    for second, words, times in ((same, "all from too few patients to say", 1), (other, "beyond chance", 1)):
        sites = [
            SiteData(name=name, holdout_patients=3, release=release(), comparison=told)
            for name, told in (("alder", same), ("birch", second))
        ]
        headline = summarise(invented(1, study=study, run=None, sites=tuple(sites))).headline
        assert headline.endswith(f"{words}.")
        assert headline.count("too few patients") == headline.count(words) == times
        assert headline.count("95 % interval") == 1


def test_without_that_arm_the_headline_is_about_pooled_pairs_against_real_images() -> None:
    headline = summarise(one_site(compared(invented_study(evaluation=SMALL), {"synthetic_pooled": -0.1}))).headline
    assert "all sites' synthetic pairs in place of a site's own real images" in headline
    assert "\N{MINUS SIGN}0.100" in headline


@pytest.mark.parametrize(
    ("gain", "patients", "seeds", "words"),
    [
        (0.06, 40, 3, "beyond chance"),
        (-0.06, 40, 3, "beyond chance"),
        (0.03, 40, 3, "which may be chance"),
        (0.06, 40, 1, "which may be chance, with one training run each"),
        (0.06, FEW_PATIENTS - 1, 3, "from too few patients to say"),
    ],
)
def test_no_gain_is_claimed_that_its_figures_do_not_carry(gain: float, patients: int, seeds: int, words: str) -> None:
    data = one_site(
        compared(invented_study(evaluation=SMALL), {"real_and_others": gain}, patients=patients, seeds=seeds)
    )
    page = render(data)
    assert summarise(data).headline.endswith(f"at alder, {words}.")
    gains = page[page.index('id="gains"') : page.index('id="percase"')]
    assert ('class="m1"' in gains) == ("<small>beyond chance</small>" in gains) == (words == "beyond chance")


@given(st.floats(-1, 1), st.floats(0, 1), st.integers(0, 100), st.integers(1, 5))
def test_beyond_chance_means_an_interval_without_0_enough_patients_and_more_than_one_run(
    mean: float, spread: float, patients: int, runs: int
) -> None:
    gain = Gain(mean=mean, low=max(-1.0, mean - spread), high=min(1.0, mean + spread))
    called = standing(gain, patients=patients, runs=runs) == "beyond"
    assert called == (patients >= FEW_PATIENTS and runs > 1 and not gain.low <= 0.0 <= gain.high)


def test_a_reference_that_was_trained_once_carries_no_gain() -> None:
    study = invented_study(evaluation=SMALL)
    found = compared(study, {"real_and_others": 0.06})
    once = found.model_copy(update={"arms": (found.arms[0].model_copy(update={"seeds": 1}), *found.arms[1:])})
    assert "beyond chance" in summarise(one_site(found)).headline
    assert "with one training run each" in summarise(one_site(once)).headline


def test_means_without_intervals_are_called_that_and_no_gain_is_shown() -> None:
    data = without_comparison(
        invented(1, study=invented_study(evaluation=SMALL), run=None), "alder", "in mode dp there are none", scored=0.5
    )
    summary = summarise(data)
    assert "0.50 against 0.50 at alder: means without intervals" in summary.headline
    page = render(data)
    assert "beyond chance" not in page
    assert "No site has compared its arms yet" in page
    assert 'class="m0 hollow"' in page


def test_a_missing_site_makes_the_report_a_partial_one_in_its_first_lines() -> None:
    whole, partial = invented(3, run=None), without_comparison(invented(3, run=None), "birch", "no answer yet")
    assert "partial" not in Reader(render(whole)).text.lower()
    text = Reader(render(partial)).text
    first = text[: text.index("In short")]
    assert "This is a partial report" in first
    assert "birch has no figures for" in first
    assert "no answer yet" in first
    assert "birch without a figure" in summarise(partial).headline


def test_what_is_missing_changes_no_figure_of_another_site() -> None:
    whole, partial = invented(3), without_comparison(invented(3), "birch", "no answer yet")
    lines = [[line for line in csv_text(data).splitlines() if ",birch," not in line] for data in (whole, partial)]
    assert lines[0] == lines[1]


def test_a_cell_without_a_figure_shows_its_reason() -> None:
    data = without_comparison(invented(2, study=invented_study(evaluation=SMALL)), "birch", "the site left")
    page = render(data)
    cells = re.findall(r'<td class="none[^>]*>(.*?)</td>', page)
    assert cells == ["the site left"] * 5  # two sources, pooled, own and others, own real
    assert page.count("the site left") > 10  # the panels, and the table of all metrics


def test_the_inconclusive_verdict_is_told_where_its_pairs_are_shown() -> None:
    page = render(invented(1, sites=(invented(1).sites[0].model_copy(update={"release": release(verdict="passed")}),)))
    assert "too few hold-out patients to tell a copy from chance" not in page
    unsure = invented(1).sites[0].model_copy(update={"release": release(verdict="inconclusive")})
    text = Reader(render(invented(1, sites=(unsure,)))).text
    told = text[text.index("The sites and what they released") :]
    assert "The screening was inconclusive. There were too few hold-out patients to tell a copy from chance" in told
    assert "let the release go to its stewards all the same" in told


def test_a_panel_of_utility_against_privacy_says_why_it_is_empty() -> None:
    site = invented(1).sites[0]
    kept = site.model_copy(update={"release": release(membership_auc=None, acceptance=None)})
    text = Reader(render(invented(1, sites=(kept,)))).text
    assert "No release claims an ε: the study's mode is audited." in text
    assert "No release tells how far an attack on its training patients reached." in text
    assert "No release tells how many samples it was chosen from." in text
    told = site.model_copy(update={"release": release(epsilon=2.0, membership_auc=0.6)})
    text = Reader(render(invented(1, sites=(told,)))).text
    assert "No release claims" not in text
    assert "alder at 2: 0.4" in text
    assert "alder at 0.6: 0.4" in text


def test_every_metric_has_words_and_a_column() -> None:
    text = Reader(render(invented(2))).text
    assert set(METRIC_WORDS) == set(NAMES)
    assert all(words in text for words in METRIC_WORDS.values())


def test_the_methods_name_every_setting_and_every_arm() -> None:
    data = invented(2)
    reader = Reader(render(data))
    told = reader.text[reader.text.index("Methods") :]
    for words in (
        "fixed hold-out (31 to 36 patients", "no generator saw a patient on whom its pairs were judged",
        "A validation part", "chose the checkpoint", "2,000 resamples", "3 seeds (0, 1, 2)", "torch 2.13.0",
    ):  # fmt: skip
        assert words in told, words
    for key, value in data.study.evaluation.model_dump(mode="json").items():
        assert f"evaluation.{key}" in told
        assert str(value).strip("[]()").replace("'", "").split(",")[0] in told
    assert all(f"({arm})" in told for arm in data.study.evaluation.arms)


def test_what_left_each_site_is_listed_to_the_byte() -> None:
    text = Reader(render(invented(2))).text
    assert "1,234,567" in text
    assert "1,235,479" in text  # alder in all
    assert "nothing was counted" in text
    assert "2 min 04 s" in text
    assert "What left each site" not in Reader(render(invented(2, run=None))).text


def test_the_report_says_anonymous_only_to_deny_it() -> None:
    mentions = re.findall(r"[^.;]*anonymous[^.;]*", Reader(render(invented(2))).text)
    assert mentions
    assert all("does not make" in mention for mention in mentions)


def test_every_picture_has_words_and_every_heading_its_place() -> None:
    reader = Reader(render(invented(3)))
    assert all(image.get("alt") for image in reader.of("img"))
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    # Small charts have headings of the fourth level right under a section's own.
    assert all(after - before <= 2 for before, after in pairwise(levels))
    assert reader.of("html")[0]["lang"] == "en"


def test_figures_in_the_heat_map_are_readable_on_every_shade_and_in_both_schemes() -> None:
    def rgb(css: str) -> tuple[int, ...]:
        return tuple(int(css[start : start + 2], 16) for start in (1, 3, 5))

    shades = [shade(step / 200, 1.0) for step in range(201)]
    assert all(contrast(rgb(s.ground), rgb(s.text)) >= 4.5 for s in shades)
    assert all(contrast(rgb(s.dark_ground), rgb(s.dark_text)) >= 4.5 for s in shades)
    light = [contrast(rgb(s.ground), (0, 0, 0)) for s in shades]
    dark = [contrast(rgb(s.dark_ground), (0, 0, 0)) for s in shades]
    assert all(before >= after for before, after in pairwise(light))
    assert all(before <= after for before, after in pairwise(dark))


UNIT = st.floats(0, 1, allow_nan=False)


@st.composite
def reports(draw: st.DrawFn) -> ReportData:
    """Any mixture of sites with a comparison, with means alone, with reasons, with and without a release."""
    count = draw(st.integers(1, 2))
    seeds = draw(st.sampled_from([(0,), (0, 1, 2)]))
    per_case = draw(st.sampled_from([(), (1,), (1, 2, 5)]))
    study = invented_study(evaluation={**SMALL, "seeds": seeds, "per_case": per_case})
    data = invented(count, study=study, run=None)
    for site in data.sites:
        kind = draw(st.sampled_from(["compared", "means", "reason"]))
        if kind != "compared":
            other = without_comparison(data, site.name, "late", scored=draw(UNIT) if kind == "means" else None)
            data = other.model_copy(update={"means": (*data.means, *other.means)})
    silent = draw(st.booleans())
    if silent:
        last = data.sites[-1].model_copy(
            update={"release": None, "no_release": "it left", "distributions": (), "holdout_patients": None}
        )
        data = data.model_copy(update={"sites": (*data.sites[:-1], last)})
    return ReportData.model_validate(data.model_dump())


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(reports())
def test_any_report_renders_whole_and_without_a_number_that_is_none(data: ReportData) -> None:
    reader = Reader(render(data))
    assert not re.search(r"\b(nan|inf|None)\b", reader.text)
    places = [value for _, attributes in reader.tags for key, value in attributes.items() if key in PLACES]
    assert places
    assert not [value for value in places if re.search("nan|inf", str(value))]
    lines = list(csv.DictReader(io.StringIO(csv_text(data))))
    assert all(bool(line["mean"]) != bool(line["reason"]) for line in lines)
    assert ReportData.model_validate_json(data.model_dump_json()) == data


def test_the_three_files_say_the_same(tmp_path: Path) -> None:
    data = without_comparison(invented(2), "birch", "no answer yet")
    html, whole, table = (path.read_text() for path in write_report(data, tmp_path / "out"))
    assert html == render(data)
    assert json.loads(whole)["sites"][0]["comparison"]["resamples"] == 2000
    assert render(ReportData.model_validate_json(whole)) == html
    lines = list(csv.DictReader(io.StringIO(table)))
    assert tuple(lines[0]) == COLUMNS
    found = data.sites[0].comparison
    assert found is not None
    assert len(lines) == len(NAMES) * (len(found.arms) + len(data.means))
    first = next(line for line in lines if line["arm"] == "real_and_others" and line["metric"] == "iou")
    figures = next(arm for arm in found.arms if arm.arm == "real_and_others")
    assert figures.gains is not None
    assert float(first["mean"]) == figures.figures["iou"].mean
    assert float(first["gain_low"]) == figures.gains["iou"].low
    assert {line["reason"] for line in lines if line["site"] == "birch"} == {"no answer yet"}


def test_no_text_in_the_table_is_a_formula() -> None:
    bad = Means(arm="real_own", site="alder", reason="=HYPERLINK(1)")
    data = invented(1, sites=(SiteData(name="alder", no_release="x", no_comparison="x"),), means=(bad,), run=None)
    assert "'=HYPERLINK(1)" in csv_text(data)


def test_figures_that_contradict_one_another_are_refused() -> None:
    data = invented(2)
    with pytest.raises(ValidationError, match="either means over some seeds"):
        Means(arm="real_own", site="alder")
    with pytest.raises(ValidationError, match="stands there twice"):
        ReportData.model_validate(
            {**data.model_dump(), "means": (Means(arm="real_own", site="alder", seeds=1, metrics=metrics(0.9)),)}
        )
    with pytest.raises(ValidationError, match="another study"):
        ReportData.model_validate({**data.model_dump(), "study_sha256": "0" * 64})
    with pytest.raises(ValidationError, match="cedar"):
        invented(2, run=RunData(egress={"cedar": {"release": 1}}))
    with pytest.raises(ValidationError, match="or a reason why not"):
        SiteData(name="alder", no_release="it left")
    with pytest.raises(ValidationError, match="not a PNG"):
        release(sheet_png=b"GIF89a")


@given(st.lists(UNIT, min_size=1, max_size=20))
def test_an_axis_reaches_all_that_stands_on_it(values: list[float]) -> None:
    axis = share_axis(values)
    assert axis.low <= min(values) + 1e-6
    assert max(values) <= axis.high + 1e-6
    assert -1e-9 <= axis.low < axis.high <= 1.0 + 1e-9
    assert 2 <= len(axis.ticks) <= 7
    around = gain_axis([value * 2 - 1 for value in values])
    assert all(around.low - 1e-6 <= value * 2 - 1 <= around.high + 1e-6 for value in values)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=10), st.floats(1e-6, 1e6))
def test_counts_and_epsilons_keep_their_order(counts: list[int], epsilon: float) -> None:
    axis = count_axis([float(n) for n in counts])
    places = [axis.place(float(n)) for n in sorted(set(counts))]
    assert places == sorted(places)
    assert all(0 < place < 100 for place in places)
    scale: Axis = epsilon_axis([epsilon])
    assert scale.high >= epsilon * (1 - 1e-9)
    assert math.isfinite(scale.place(epsilon))


def test_numbers_read_as_people_say_them() -> None:
    assert [duration(s) for s in (0.42, 42.3, 59.7, 185, 7800)] == [
        "0.4 s", "42 s", "1 min 00 s", "3 min 05 s", "2 h 10 min",
    ]  # fmt: skip
    assert [signed(v) for v in (0.04, -0.02, -0.0001, 0.0)] == ["+0.040", "\N{MINUS SIGN}0.020", "0.000", "0.000"]
