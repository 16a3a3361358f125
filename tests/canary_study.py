"""A whole study in one process, over data that is full of canary words: from the import to the report.

Nothing is replaced but how long is trained and which samples pass: what they look like is not asked here. Each step is
the product's own: the command line at the site, the job's entry point, the release service over TLS, Flower's messages
over a grid in memory.
"""

from __future__ import annotations

import csv
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import structlog
from flwr.app import Context, Message
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner, Result

from coordinator.datasets.build import build, load
from coordinator.datasets.export import export
from coordinator.evaluation.arms import measurements, missing
from coordinator.evaluation.comparing import comparisons, distributions
from coordinator.evaluation.evaluation import Evaluation
from coordinator.evaluation.gather import gather
from coordinator.evaluation.report import write_report
from coordinator.evaluation.run import recorder
from coordinator.rounds.announce import Delivery, announce
from coordinator.rounds.measure import Order, measure
from shared.documents import canonical, sign
from shared.logs import configure
from shared.messages import Answer
from shared.orders import MeasurementRequest
from shared.study import Study
from site_node.airlock.accounts import Accounts
from site_node.airlock.workflow import Airlock
from site_node.cli import app
from site_node.generators.cohort.presets import COHORT_PRESETS
from site_node.link.client_app import build_client_app
from site_node.policy import write_policy
from site_node.screening import screen
from site_node.screening.plausibility import Ranges
from site_node.screening.reference import Reference
from site_node.work.child import main as run_job
from tests.canaries import FILE, FOLDER, HOSPITAL, PATIENT, TEXT
from tests.enrolled_site import EnrolledSite
from tests.helpers import Coordinator, lesion_pair, small_study
from tests.memory_grid import MemoryGrid
from tests.review_page import Page
from tests.review_site import CHEAP, PASSWORD, ReviewSite
from tests.sites import LENIENT, STEWARD

PATIENTS = 8
NODE = 1  # the id that the coordinator of these tests gives its only node


def hospital_data(folder: Path, *, patients: int = PATIENTS) -> Path:
    """A data folder with a word in its name, in every file's name, in the PNGs' metadata and in patients.csv."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    told = PngImagePlugin.PngInfo()
    told.add_text("Comment", f"{TEXT} born 1931")
    told.add_itxt("Title", TEXT, zip=True)
    exif = Image.Exif()
    exif[0x010E] = TEXT
    rows = []
    for number in range(patients):
        pair, name = lesion_pair(number), f"{FILE}_{number:03d}.png"
        for kind, pixels in (("images", pair.image), ("masks", pair.mask)):
            Image.fromarray(pixels).save(folder / kind / name, pnginfo=told, exif=exif)
        rows.append((name, f"{PATIENT}-{number:03d}"))
    with (folder / "patients.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "patient"), *rows])
    return folder


@dataclass
class Answering:
    """The site's Flower client, as a node of a MemoryGrid. What it replies is kept; what it queued is done at once."""

    site: EnrolledSite
    replies: list[bytes] = field(default_factory=list)
    works: bool = False  # whether jobs are run; the study's own waits for the test

    def __call__(self, message: Message, context: Context) -> Message:
        reply = build_client_app(self.site.home)(message=message, context=context)
        self.replies.append(reply.content.deflate())
        while self.works and (job := self.site.queue.claim()) is not None:
            run_job(str(self.site.home.path), job.job_id)
        return reply


@dataclass
class CanaryStudy:
    """What a whole study left behind. consoles: command -> what it printed; pages: address -> what was served."""

    folder: Path
    data: Path
    coordinator: Coordinator
    site: EnrolledSite
    study: Study
    client: Answering
    consoles: dict[str, str] = field(default_factory=dict)
    pages: dict[str, bytes] = field(default_factory=dict)

    @property
    def printed(self) -> Path:
        """What all processes of both sides wrote on standard output and error, apart from commands: their logs."""
        return self.folder / "printed.log"

    @property
    def out(self) -> Path:
        """The dataset as a receiver has it, and the report."""
        return self.folder / "out"

    @property
    def grid(self) -> MemoryGrid:
        """A round of Flower with the site as its only node."""
        return MemoryGrid({NODE: self.client})  # type: ignore[dict-item]

    def command(self, *words: str) -> Result:
        """A command of synthward-site, as its people type it."""
        result = CliRunner().invoke(app, [*words, "--home", str(self.site.home.path)])
        self.consoles[" ".join(word for word in words if word.isidentifier() or "-" in word[:2])] = result.output
        return result

    def tell(self) -> list[Answer]:
        """Announces the study to the site; its answers."""
        published = self.coordinator.store.study(self.study.study_id)
        delivery = Delivery("north", NODE, published.sha256, published.payload, published.signature)
        answers: list[Answer] = []
        announce(self.grid, [delivery], lambda _d, answer: answers.append(answer), timeout_s=5.0)
        return answers

    def order(self, *, version: int) -> MeasurementRequest:
        """An order to score a network of the site's own, about a further dataset version."""
        sha256 = self.coordinator.store.study(self.study.study_id).sha256
        return MeasurementRequest(
            order_id=f"m-{version}", study_sha256=sha256, dataset_version=version, arm="real_own", seed=0
        )

    def ask_once_more(self, *, version: int) -> list[Answer]:
        """Sends the site such an order; its answers."""
        order = canonical(self.order(version=version))
        signature = sign(self.coordinator.key, "measurement", order)
        answers: list[Answer] = []
        once_more = Order(f"m-{version}", "measurement", order, signature, None, {"north": NODE})
        measure(self.grid, [once_more], lambda _o, _site, answer: answers.append(answer), timeout_s=5.0)
        return answers


def join(folder: Path, coordinator: Coordinator) -> CanaryStudy:
    """The hospital with its data, enrolled; nothing imported yet."""
    data = hospital_data(folder / f"{HOSPITAL}-Klinikum" / FOLDER)
    site = EnrolledSite.join(coordinator, folder / f"{HOSPITAL}-Klinikum" / "site", "north")
    write_policy(site.home.policy_file, LENIENT)
    settings = site.home.settings_file.read_text(encoding="utf-8")
    settings = settings.replace('data = ""', f'data = "{data}"').replace("workers = 0", "workers = 1")
    site.home.settings_file.write_text(settings, encoding="utf-8")
    study = coordinator.publish(
        small_study(
            style={"kind": "moments", "source": "cohort"},
            evaluation={
                "steps": 2, "batch_size": 2, "decoder_channels": (8, 8, 8, 8, 8), "seeds": (0,),
                "arms": ("real_own", "synthetic_pooled"),
            },
        )
    )  # fmt: skip
    return CanaryStudy(folder, data, coordinator, site, study, Answering(site))


def run(trial: CanaryStudy) -> None:
    """Import, training, screening, review, approval, upload, dataset, measurements, report."""
    password = trial.site.home.private / "steward.password"
    password.write_text(PASSWORD, encoding="utf-8")
    site, queue = trial.site, trial.site.queue
    assert trial.command("import").exit_code == 0, trial.consoles["import"]
    assert trial.command("steward", "add", STEWARD, "--password-file", str(password)).exit_code == 0
    assert trial.tell() == [Answer("queued")]
    job = queue.claim()
    assert job is not None
    run_job(str(site.home.path), job.job_id)
    release = site.airlock.releases()[0]
    as_steward = ("--as", STEWARD, "--password-file", str(password))
    trial.pages = _crawled(site, release.release_id)
    sheets = site.home.private / "review"
    assert trial.command("review", release.release_id, "--sheets", str(sheets), *as_steward).exit_code == 0
    voted = trial.command("approve", release.release_id, "--digest", release.bundle_sha256, *as_steward)
    assert voted.exit_code == 0, voted.output
    site.turn()
    assert trial.coordinator.accepted() == [release.bundle_sha256]
    _evaluate(trial)
    for words in (("status",), ("verify",), ("ledger",), ("doctor",), ("steward", "list"), ("status", "--json")):
        trial.command(*words)


def _evaluate(trial: CanaryStudy) -> None:
    store, objects = trial.coordinator.store, trial.coordinator.objects
    published = store.study(trial.study.study_id)
    version, _, _ = build(store, published.sha256, actor="operator")
    _, dataset = load(store, published.sha256, version)
    export(objects, dataset, trial.study, version, trial.out / "dataset")
    evaluation = Evaluation(
        store=store, objects=objects, key=trial.coordinator.key, folder=trial.coordinator.folder / "evaluation",
        study=trial.study, study_sha256=published.sha256, version=version, dataset=dataset, sites=store.sites(),
        progress=lambda *_: None,
    )  # fmt: skip
    trial.client.works = True
    for what, orders in (("scored", measurements), ("compared", comparisons), ("distances", distributions)):
        measure(trial.grid, orders(evaluation), recorder(evaluation, what, missing(evaluation)), timeout_s=60.0)
    write_report(gather(store, objects, published, version), trial.out)


def _crawled(site: EnrolledSite, release_id: str) -> dict[str, bytes]:
    """Every page and picture of the review page that links lead to, as a steward who has signed in gets them."""
    accounts = Accounts(site.store, hasher=CHEAP)
    manifest = Airlock(site.store).release(release_id).manifest
    browser = Page(ReviewSite(site.home, site.store, accounts, release_id, manifest)).opened(STEWARD)
    pages: dict[str, bytes] = {}
    waiting = ["/", f"/releases/{release_id}", "/no-such-page"]
    while waiting:
        address = waiting.pop()
        if address in pages or len(pages) > 200:
            continue
        answer = browser.get(address)
        pages[address] = str(answer.headers).encode() + answer.content
        if "html" in answer.headers.get("content-type", ""):
            waiting += [found.split("#")[0] for found in re.findall(r'(?:href|src)="(/[^"]*)"', answer.text)]
    return pages


@contextmanager
def printed_to(path: Path) -> Iterator[None]:
    """Standard output and error of this process, and of the libraries under it, go into a file, as in a service."""
    with path.open("a", encoding="utf-8") as file:
        before, hooks = [os.dup(number) for number in (1, 2)], (sys.excepthook, threading.excepthook)
        sys.stdout.flush()
        try:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            with redirect_stdout(file), redirect_stderr(file):
                configure()
                yield
        finally:
            for number, kept in zip((1, 2), before, strict=True):
                os.dup2(kept, number)
                os.close(kept)
            sys.excepthook, threading.excepthook = hooks
            structlog.reset_defaults()


def quick(patch: pytest.MonkeyPatch) -> None:
    """Trains for a moment, and lets pass what that draws, which is mud."""
    demo = COHORT_PRESETS["demo"]
    layout = replace(demo.layout, steps=2, batch=2)
    patch.setitem(
        COHORT_PRESETS, "demo",
        replace(demo, layout_widths=(8, 8), layout_critic_widths=(8, 8), layout=layout, labeller_steps=0),
    )  # fmt: skip
    patch.setattr(screen, "mask_is_plausible", lambda *_: True)
    patch.setattr(Ranges, "hold", lambda *_: True)
    patch.setattr(Reference, "flagged", lambda *_: None)
