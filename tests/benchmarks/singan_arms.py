"""What is compared on what: real pairs split by patient group, and what each generator makes of its training cases.

Training runs in a process of its own, so that its peak of memory is its own too.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from shared.errors import SynthwardError
from shared.pairs import Pair, resize_pair, with_channels
from shared.segmenter import predict
from site_node.generators.cohort.generator import CohortGenerator
from site_node.generators.cohort.presets import CohortPreset
from site_node.generators.cohort.training import train_cohort
from site_node.generators.inputs import stream
from site_node.generators.per_case.presets import Preset
from site_node.generators.per_case.pyramid import draw
from site_node.generators.per_case.singan_seg import SinGanSeg, train_case
from site_node.generators.progress import Progress
from site_node.intake.folders import IntakeLimits, load_case, read_folder
from site_node.phantoms.scenes import write_site
from tests.benchmarks.singan_quality import binarity

SPLIT_SEED = 0
MOST_TEST_CASES = 200
_PHANTOM_PX = 128
_FRAMES_A_PATIENT = 2
Answer = TypeVar("Answer")
Case = tuple[str, Pair]  # with its patient key


@dataclass(frozen=True)
class Cases:
    """Real pairs as they were read. No patient is in two of the three parts."""

    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]


def at(part: Sequence[Case], size_px: int) -> list[Case]:
    """The cases as RGB squares of size_px."""
    return [(key, resize_pair(Pair(with_channels(pair.image, 3), pair.mask), size_px)) for key, pair in part]


def read_cases(folder: Path | None, count: int) -> Cases:
    """`count` training cases, as many for validation, and up to 200 of the rest for testing; phantoms without a folder.

    Raises SynthwardError of the intake, and ValueError where the folder holds too few cases.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as drawn:
            patients = -(-3 * count // _FRAMES_A_PATIENT)
            write_site(
                Path(drawn), "endoscopy_warm", patients=patients, cases_per_patient=_FRAMES_A_PATIENT,
                size_px=_PHANTOM_PX, seed=SPLIT_SEED,
            )  # fmt: skip
            return read_cases(Path(drawn), count)
    limits = IntakeLimits()
    found = read_folder(folder, limits).cases
    parts = split([case.patient for case in found], (count, count, MOST_TEST_CASES))
    loaded = [tuple((found[i].patient, load_case(found[i], limits)) for i in part) for part in parts]
    return Cases(*loaded)


def split(groups: Sequence[str], counts: Sequence[int]) -> list[list[int]]:
    """Indices of the cases of each part: whole groups in a fixed random order, each part filled up to its count.

    A group that would overfill a part is left for the next. The last part may stay smaller; ValueError where it would
    stay empty or another one short.
    """
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    order = sorted(members)
    random.Random(SPLIT_SEED).shuffle(order)
    parts: list[list[int]] = []
    for count in counts:
        part: list[int] = []
        left = []
        for group in order:
            if len(part) + len(members[group]) <= count:
                part += members[group]
            else:
                left.append(group)
        parts.append(part)
        order = left
    if not parts[-1] or any(len(part) < count for part, count in zip(parts[:-1], counts, strict=False)):
        raise ValueError(f"{len(groups)} cases are too few for parts of {list(counts)}: ask for fewer CASES")
    return parts


@dataclass(frozen=True)
class Drawn:
    """A generator's samples and what they cost.

    train_s: process-CPU seconds of the whole training; sample_s: of one sample; peak_mb: of the training process;
    binarity: of the masks before the cut; sources: of each sample the case that it grew from, of a cohort's none.
    """

    pairs: tuple[Pair, ...]
    train_s: float
    sample_s: float
    peak_mb: float
    binarity: float
    sources: tuple[int, ...] = ()


def in_fresh_process(function: Callable[..., Answer], *arguments: object) -> Answer:
    """function(*arguments) in a new interpreter, on one thread. The function is a module's own, to be found by name."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_on_one_thread, function, arguments).result()


def _on_one_thread(function: Callable[..., Answer], arguments: tuple[object, ...]) -> Answer:
    torch.set_num_threads(1)
    return function(*arguments)


def peak_mb() -> float:
    """Peak resident memory of this process so far, interpreter and libraries included, in MB of 10^6 bytes.

    From /proc: getrusage's ru_maxrss would start from what the parent process held when it started this one.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


def per_case(preset: Preset, pairs: Sequence[Pair], seed: int, samples_a_case: int) -> Drawn:
    """One pyramid a case, in this process. A case that diverges at every rate is set aside; ValueError where all do."""
    start = time.process_time()
    generators: dict[int, SinGanSeg] = {}
    for index, pair in enumerate(pairs):
        try:
            generators[index] = train_case(pair, preset, seed=1000 * seed + index)
        except SynthwardError as error:
            if error.code != "training.diverged":
                raise
    train_s, peak = time.process_time() - start, peak_mb()
    if not generators:
        raise ValueError(f"{preset.name} with {preset.iterations} iterations diverged on all of {len(pairs)} cases")
    numbered = [(index, number) for index in generators for number in range(samples_a_case)]
    start = time.process_time()
    drawn = tuple(generators[index].sample(number) for index, number in numbered)
    sample_s = (time.process_time() - start) / len(drawn)
    soft = np.stack([_soft_mask(generators[index], number) for index, number in numbered])
    return Drawn(drawn, train_s, sample_s, peak, binarity(soft), tuple(index for index, _ in numbered))


def _soft_mask(generator: SinGanSeg, seed: int) -> NDArray[np.float32]:
    """The mask of sample(seed) before it is cut, in [0, 1]: [h, w] of the finest scale."""
    out = draw(generator.scales, 1, random=stream("sample", seed))  # [1, C, h, w] in [-1, 1]
    soft: NDArray[np.float32] = ((out[0, -1] + 1) / 2).numpy()
    return soft


def cohort(preset: CohortPreset, pairs: Sequence[Pair], seed: int, samples: int) -> tuple[Drawn, Drawn]:
    """One generator for all pairs, in this process: with the labeller's masks, and the same with its own."""
    start = time.process_time()
    marks = {"pyramid": start}

    def mark(progress: Progress) -> None:
        if progress.scale < progress.scales - 1:  # the labeller is told as the last scale
            marks["pyramid"], marks["peak"] = time.process_time(), peak_mb()

    generator = train_cohort(pairs, preset, seed=seed, on_progress=mark)
    train_s, peak = time.process_time() - start, peak_mb()
    own = replace(generator, labeller=None)
    labelled, labelled_s = _timed_samples(generator, seed, samples)
    plain, plain_s = _timed_samples(own, seed, samples)
    assert generator.labeller is not None
    segmenter = generator.labeller.segmenter
    probabilities = np.stack([predict(segmenter, pair.image) for pair in labelled[:200]])
    soft = (own._draw(min(200, samples), stream("sample-cohort", seed))[:, -1] + 1).numpy() / 2
    return (
        Drawn(labelled, train_s, labelled_s, peak, binarity(probabilities)),
        Drawn(plain, marks["pyramid"] - start, plain_s, marks["peak"], binarity(soft)),
    )


def _timed_samples(generator: CohortGenerator, seed: int, count: int) -> tuple[tuple[Pair, ...], float]:
    start = time.process_time()
    drawn = tuple(generator.sample(seed, count))
    return drawn, (time.process_time() - start) / count
