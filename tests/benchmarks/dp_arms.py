"""What the benchmark of private training compares: the same patients, the same test cases, and a generator each.

The plain way is there too: a generator and a critic from scratch, the critic under the same mechanism, nothing public.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.pairs import Pair
from site_node.dp.accountant import sigma_for
from site_node.dp.critic_step import Mechanism, PrivateCritic, wasserstein
from site_node.dp.tainted import PrivateTensor, private
from site_node.generators.cohort.adversarial import BETAS, zero_centred
from site_node.generators.cohort.generator import CohortGenerator
from site_node.generators.cohort.networks import DetailGenerator, LayoutGenerator
from site_node.generators.inputs import stream
from site_node.generators.private_cohort.generator import shrunk, stacked
from site_node.generators.private_cohort.networks import SmallCritic
from site_node.generators.private_cohort.presets import PrivatePreset
from site_node.generators.private_cohort.prior import ENDOSCOPY, Phantoms
from site_node.generators.private_cohort.training import Privacy, train_private_cohort
from site_node.intake.folders import IntakeLimits, load_case, read_folder
from site_node.phantoms.scenes import write_site
from tests.benchmarks import singan_arms
from tests.benchmarks.singan_arms import Case

Q = 0.1  # each patient's chance in each step
CLIP = 1.0
_LAYOUT_WIDTHS = (96, 64, 48, 24)


@cache
def privacy_of(epsilon: float, patients: int, steps: int) -> Privacy:
    """What spends `epsilon` at delta = 1 / (10 N) in that many steps."""
    return Privacy(sigma_for(epsilon, 1.0 / (10 * patients), q=Q, steps=steps), CLIP, Q, steps)


def by_patient(cases: Sequence[tuple[str, Pair]]) -> list[list[Pair]]:
    """The pairs of each patient; cases: (patient key, pair)."""
    patients: dict[str, list[Pair]] = {}
    for key, pair in cases:
        patients.setdefault(key, []).append(pair)
    return list(patients.values())


def read_cases(folder: Path | None, count: int, size_px: int) -> tuple[list[Case], list[Case]]:
    """`count` training cases and up to 200 for testing, the same ones for every count; phantoms without a folder.

    No patient is in both. Raises SynthwardError of the intake, and ValueError where the folder holds too few cases.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as drawn:
            write_site(
                Path(drawn), "endoscopy_cool", patients=2 * count, cases_per_patient=1, size_px=size_px, seed=1
            )  # fmt: skip
            return _read(Path(drawn), count, min(count, singan_arms.MOST_TEST_CASES), size_px)
    return _read(folder, count, singan_arms.MOST_TEST_CASES, size_px)


def _read(folder: Path, count: int, test: int, size_px: int) -> tuple[list[Case], list[Case]]:
    limits = IntakeLimits()
    found = read_folder(folder, limits).cases
    of_test, of_training = singan_arms.split([case.patient for case in found], (test, count))
    if len(of_training) < count:
        raise ValueError(f"{len(found)} cases are too few for {test} and {count}: ask for fewer CASES")
    tested, trained = (
        singan_arms.at([(found[i].patient, load_case(found[i], limits)) for i in part], size_px)
        for part in (of_test, of_training)
    )
    return trained, tested


def prior_alone(size_px: int, count: int, seed: int) -> list[Pair]:
    """Scenes of nobody: epsilon 0."""
    return Phantoms(ENDOSCOPY, size_px).draw(count, stream("bench-prior", seed))


def private_pairs(
    cases: Sequence[tuple[str, Pair]], preset: PrivatePreset, privacy: Privacy, size_px: int, count: int, seed: int
) -> list[Pair]:
    """Of the private cohort generator."""
    generator = train_private_cohort(
        by_patient(cases), preset, privacy, Phantoms(ENDOSCOPY, size_px), seed=seed
    )  # fmt: skip
    return generator.sample(seed, count)


def scratch_pairs(
    cases: Sequence[tuple[str, Pair]], preset: PrivatePreset, privacy: Privacy, size_px: int, count: int, seed: int
) -> list[Pair]:
    """Of a generator of whole images that starts from nothing, upscaled without detail, with its own masks."""
    random = stream("bench-scratch", seed)
    side = min(preset.critic_px, size_px)
    generator = LayoutGenerator(4, (side, side), _LAYOUT_WIDTHS, random)
    critic = SmallCritic(4, (side, side), preset.critic_widths, random)
    of_critic = torch.optim.Adam(critic.parameters(), preset.critic_rate, BETAS)
    of_generator = torch.optim.Adam(generator.parameters(), preset.critic_rate, BETAS)
    patients = [private(torch.cat([shrunk(stacked([p]), side) for p in own])) for own in by_patient(cases)]
    mechanism = Mechanism(privacy.sigma, privacy.clip, privacy.q, len(patients))
    step_of = PrivateCritic(critic, of_critic, mechanism, wasserstein, (4, side, side))
    for _ in range(privacy.steps):
        with torch.no_grad():
            drawn = generator(generator.draw_noise(preset.batch, random))
        step_of.step(patients, partial(_flat_at, critic, drawn, preset.penalty), against=drawn)
        loss = -critic(generator(generator.draw_noise(preset.batch, random))).mean()
        of_generator.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        of_generator.step()
    whole = CohortGenerator.of(
        "scratch", 3, ((side, side), (size_px, size_px)), _LAYOUT_WIDTHS, [8],
        [generator.state_dict(), _no_detail()], None,
    )  # fmt: skip
    return whole.sample(seed, count)


def _no_detail() -> dict[str, Tensor]:
    return DetailGenerator(4, 8, torch.Generator().manual_seed(0)).state_dict()  # adds nothing until it is trained


def _flat_at(critic: nn.Module, drawn: Tensor, penalty: float) -> Tensor:
    """For a flat slope at drawn images."""
    points = drawn.detach().requires_grad_(True)
    return 0.5 * penalty * zero_centred(critic(points), points)


def step_seconds(preset: PrivatePreset, repeats: int) -> tuple[list[float], list[float]]:
    """Process-CPU seconds of private and of plain critic steps, by turns, on batches of the preset's size.

    The plain step does the same with one gradient for the whole batch: real term, drawn term, penalty, Adam.
    """
    random, shape = torch.Generator().manual_seed(0), (4, preset.critic_px, preset.critic_px)
    images = torch.rand(preset.batch, *shape, generator=random) * 2 - 1
    patients: list[PrivateTensor] = [private(image[None]) for image in images]
    drawn = torch.rand(preset.batch, *shape, generator=random) * 2 - 1
    critics = [SmallCritic(4, shape[1:], preset.critic_widths, random) for _ in range(2)]
    optimisers = [torch.optim.Adam(critic.parameters(), preset.critic_rate, BETAS) for critic in critics]
    step_of = PrivateCritic(critics[0], optimisers[0], Mechanism(1.0, CLIP, 1.0, preset.batch), wasserstein, shape)
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        start = time.process_time()
        step_of.step(patients, partial(_flat_at, critics[0], drawn, 1.0), against=drawn)
        middle = time.process_time()
        loss = critics[1](drawn).mean() - critics[1](images).mean() + _flat_at(critics[1], drawn, 1.0)
        optimisers[1].zero_grad(set_to_none=True)
        loss.backward()
        optimisers[1].step()
        found[0].append(middle - start)
        found[1].append(time.process_time() - middle)
    return found
