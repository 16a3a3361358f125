"""The report: complete in itself, escaped, and careful about what its figures carry."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from coordinator.evaluation import charts
from coordinator.evaluation.report import METRIC_WORDS, duration, render
from coordinator.evaluation.report_data import Cell, DatasetData, MatrixRow, ReportData, SiteData
from coordinator.evaluation.summary import FEW_PATIENTS, summarise
from shared.metrics import NAMES, Metrics
from shared.pairs import Pair
from shared.privacy import ACCESS_WORDS, Access, PrivacyStatement
from shared.sheets import GAP_PX, HALO, LINE, contact_sheet, outlined

STATEMENT = PrivacyStatement(accesses=tuple(Access(kind=kind) for kind in ACCESS_WORDS))
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"
VOID = {"meta", "img", "br", "circle", "path", "line"}


def figures(iou: float) -> Metrics:
    f_score = 2 * iou / (1 + iou)
    return Metrics(
        dice_loss=1 - f_score, iou=iou, f_score=f_score, accuracy=0.9125, recall=f_score, precision=f_score,
        hd95=(1 - iou) / 4, lesions_found=iou,
    )  # fmt: skip


def pair(seed: int = 0, side: int = 32) -> Pair:
    draw = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    mask[8:20, 10:24] = 255
    return Pair(draw.integers(0, 256, (side, side, 3), np.uint8), mask)


def site(name: str, **changes: Any) -> SiteData:
    values: dict[str, Any] = {
        "name": name, "cases": 120, "patients": 60, "training_patients": 25, "holdout_patients": 35, "sampled": 84,
        "released": 80, "privacy_label": STATEMENT.label(), "privacy_sentences": tuple(STATEMENT.sentences()),
        "approved_by": ("demo-steward",), "rejected": {"copy": 3, "mask-empty": 1},
        "sheet_png": contact_sheet([pair()], columns=4, cell_px=32), "sheet_pairs": 1,
    }  # fmt: skip
    return SiteData(**{**values, **changes})


def report(**changes: Any) -> ReportData:
    values: dict[str, Any] = {
        "study_id": "polyps-1",
        "title": "Polyps",
        "purpose": "Is it worth sharing?",
        "closes": datetime(2026, 12, 31, tzinfo=UTC),
        "created": datetime(2026, 11, 21, 12, 30, tzinfo=UTC),
        "sites": (site("alder"), site("birch")),
        "dataset": DatasetData(version=1, pairs=160, sha256="ab" * 32),
        "matrix": (
            MatrixRow(kind="site", site="alder", cells={"alder": Cell(metrics=figures(0.4123))}),
            MatrixRow(kind="pooled", cells={"alder": Cell(metrics=figures(0.44)), "birch": Cell(reason="site left")}),
            MatrixRow(kind="own_real", cells={"alder": Cell(metrics=figures(0.55)), "birch": Cell(reason="floor")}),
        ),
        "arms": {
            "real_own": {"alder": figures(0.5), "birch": figures(0.6)},
            "synthetic_own": {"alder": figures(0.2), "birch": figures(0.38)},
            "synthetic_pooled": {"alder": figures(0.4), "birch": figures(0.4)},
        },
        "egress": {"alder": {"release": 1_234_567, "enrolment": 912}, "birch": {}},
        "seconds": {"train": 124.0, "screen": 2.25},
        "peak_rss_mb": {"superlink": 188.4},
        "notes": ("birch counts each pair as one patient",),
        "settings": {"preset": "demo"},
    }
    return ReportData(**{**values, **changes})


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


def test_the_report_asks_for_nothing_and_runs_nothing() -> None:
    page = render(report())
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
    page = render(
        report(
            title=HOSTILE,
            purpose=HOSTILE,
            study_id=HOSTILE,
            notes=(HOSTILE,),
            settings={HOSTILE: HOSTILE},
            seconds={HOSTILE: 1.0},
            peak_rss_mb={HOSTILE: 1.0},
            sites=(
                site(
                    HOSTILE, approved_by=(HOSTILE,), privacy_label=HOSTILE, privacy_sentences=(HOSTILE,),
                    rejected={HOSTILE: 1},
                ),
            ),
            matrix=(MatrixRow(kind="site", site=HOSTILE, cells={HOSTILE: Cell(reason=HOSTILE)}),),
            arms={"real_own": {HOSTILE: figures(0.5)}},
            egress={HOSTILE: {HOSTILE: 1}},
        )
    )  # fmt: skip
    reader = Reader(page)
    assert not reader.of("script")
    assert len(reader.of("img")) == 1
    assert all("onerror" not in attributes for _, attributes in reader.tags)
    assert reader.text.count(HOSTILE) >= 12


def test_a_cell_without_a_figure_shows_its_reason() -> None:
    text = Reader(render(report())).text
    assert text.count("site left") == 2  # the heat map, and the table of six metrics
    assert text.count("floor") >= 2
    assert text.count("not measured") >= 2  # alder's network was not tested at birch


def test_a_cell_has_figures_or_a_reason_and_never_both() -> None:
    for values in ({}, {"metrics": figures(0.5), "reason": "late"}):
        with pytest.raises(ValueError, match="either metrics or a reason"):
            Cell(**values)


def test_the_matrix_and_all_six_metrics_are_there() -> None:
    text = Reader(render(report())).text
    assert set(METRIC_WORDS) == set(NAMES)
    assert all(words in text for words in METRIC_WORDS.values())
    for shown in ("0.41", "0.412", "0.912", "0.550"):
        assert shown in text


def test_what_left_each_site_is_listed_to_the_byte() -> None:
    text = Reader(render(report())).text
    assert "1,234,567" in text
    assert "1,235,479" in text  # alder in all
    assert "nothing was counted" in text
    assert "2 min 04 s" in text


def test_the_summary_compares_pooled_with_real_and_says_of_how_many_patients() -> None:
    summary = summarise(report())
    assert "0.40, against 0.55" in summary.headline
    assert "that is 73 %" in summary.headline
    assert "70 hold-out patients" in summary.headline
    alder, birch = summary.worth
    assert "gained 0.20" in alder.text
    assert "no clear difference" in birch.text
    assert "35 hold-out patients" in birch.text


def test_a_tiny_holdout_gets_no_verdict() -> None:
    sites = (site("alder", holdout_patients=FEW_PATIENTS - 1), site("birch", holdout_patients=1))
    summary = summarise(report(sites=sites))
    assert "too few for a conclusion" in summary.headline
    assert "%" not in summary.headline
    for worth in summary.worth:
        assert "far too few" in worth.text
        assert "%" not in worth.text
        assert "Pooling" not in worth.text
    assert any("alder and birch" in line for line in summary.caution)


def test_without_comparable_figures_nothing_is_claimed() -> None:
    summary = summarise(report(arms={"synthetic_pooled": {"alder": figures(0.4)}}, matrix=()))
    assert "nothing can be said" in summary.headline
    assert all("not measured against its own real images" in worth.text for worth in summary.worth)
    Reader(render(report(arms={}, matrix=(), egress={}, seconds={}, peak_rss_mb={}, notes=(), settings={})))


def test_the_report_says_anonymous_only_to_deny_it() -> None:
    text = Reader(render(report())).text
    mentions = re.findall(r"[^.;]*anonymous[^.;]*", text)
    assert mentions
    assert all("does not make" in mention for mention in mentions)


def test_every_picture_has_words_and_every_heading_its_place() -> None:
    reader = Reader(render(report()))
    assert all(image.get("alt") for image in reader.of("img"))
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert reader.of("html")[0]["lang"] == "en"


def test_figures_in_the_heat_map_are_readable_on_every_shade() -> None:
    def rgb(css: str) -> tuple[int, ...]:
        return tuple(int(css[start : start + 2], 16) for start in (1, 3, 5))

    shades = [charts.shade(step / 200, 1.0) for step in range(201)]
    assert all(charts.contrast(rgb(shade.ground), rgb(shade.text)) >= 4.5 for shade in shades)
    lightness = [charts.contrast(rgb(shade.ground), (0, 0, 0)) for shade in shades]
    assert all(before >= after for before, after in pairwise(lightness))
    assert all(charts.contrast(rgb(arm.colour), (255, 255, 255)) >= 4.5 for arm in charts.ARMS)


def test_data_survives_json_and_renders_the_same() -> None:
    data = report()
    assert render(ReportData.model_validate_json(data.model_dump_json())) == render(data)


def test_figures_of_a_site_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="cedar"):
        report(egress={"cedar": {"release": 1}})


def test_a_contact_sheet_has_a_cell_for_each_pair_and_equal_bytes_twice() -> None:
    pairs = [pair(seed) for seed in range(5)]
    png = contact_sheet(pairs, columns=3, cell_px=48)
    assert png == contact_sheet(pairs, columns=3, cell_px=48)
    with Image.open(io.BytesIO(png)) as sheet:
        assert sheet.size == (3 * 48 + 2 * GAP_PX, 2 * 48 + GAP_PX)
        assert sheet.getpixel((3 * 48 + 2 * GAP_PX - 1, 2 * 48)) == (255, 255, 255)
    with pytest.raises(ValueError, match="a pair"):
        contact_sheet([], columns=3, cell_px=48)


def test_an_outline_runs_along_the_mask_and_leaves_both_sides_free() -> None:
    grey = Pair(np.full((32, 32), 128, np.uint8), pair().mask)
    drawn = outlined(grey, 64)
    line, halo = (drawn == LINE).all(2), (drawn == HALO).all(2)
    assert line.any()
    assert halo.any()
    assert (drawn[26:32, 30:36] == 128).all()  # inside
    assert (drawn[:12] == 128).all()  # outside
    assert not (line & halo).any()


def test_durations_read_as_people_say_them() -> None:
    assert [duration(s) for s in (0.42, 42.3, 59.7, 185, 7800)] == [
        "0.4 s",
        "42 s",
        "1 min 00 s",
        "3 min 05 s",
        "2 h 10 min",
    ]
