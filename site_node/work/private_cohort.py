"""Where samples come from in mode dp: one private generator, paid for in the ledger before it reads anybody.

The order is the promise: reserve, then open the first training case, then train, save, commit. A job that was killed
goes on with what it has paid for, by a checkpoint of noised state; where that is gone, it has to pay again, and the
study's own epsilon rarely allows it. A generator that lies there is drawn from and never trained again: its samples are
post-processing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import SynthwardError
from shared.files import private_folder
from shared.pairs import LazyPairs, Pair
from shared.study import Study
from site_node.cases import Case, PrivateStore, ledger
from site_node.dp.accountant import sigma_for
from site_node.dp.budget import commit, reserve
from site_node.dp.events import PoissonSampledGaussian, Reading
from site_node.dp.ledger import RESERVED, Fact, facts
from site_node.generators.private_cohort.checkpoint import PrivateCheckpoint
from site_node.generators.private_cohort.generator import PrivateCohortGenerator
from site_node.generators.private_cohort.presets import PRIVATE_PRESETS, SCHEDULES, SPARE_STEPS
from site_node.generators.private_cohort.prior import ENDOSCOPY, Phantoms
from site_node.generators.private_cohort.training import Privacy, train_private_cohort
from site_node.policy import Policy
from site_node.work.case_training import of_the_machine
from site_node.work.machine import Workers, pick_device
from site_node.work.sources import OnTraining, Well, estimate_of_one, teller
from site_node.work.train_cases import remove_partials

GENERATOR_FILE = "private-cohort.safetensors"
CHECKPOINT_FILE = "private-cohort.checkpoint.safetensors"


@dataclass(frozen=True)
class PrivateCohort:
    """A study's private generator at one site, as a Source. cases: of the training patients; wanted: pairs to draw."""

    store: PrivateStore
    study: Study
    study_sha256: str
    release_id: str
    policy: Policy
    workers: Workers
    cases: Sequence[Case]
    wanted: int

    def train(self, progress: OnTraining) -> Mapping[str, str]:
        """Pays, trains, saves, and says that it ended; {}, since no case is set aside by what it shows.

        Raises policy.dp-budget and policy.dp-epsilon before a case is read, trust.ledger where a generator lies there
        that nobody paid for, training.* and storage.full.
        """
        remove_partials(self._folder)
        if self._generator.exists():
            self._settle(PrivateCohortGenerator.load(self._generator))
            return {}
        paid, checkpoint = self._paid_before() or self._pay()
        # A card that fails costs one of the few steps to spare, and the critic is small: only who names a card gets it.
        device = "cpu" if self.workers.device == "auto" else pick_device(self.workers.device)
        try:
            generator = train_private_cohort(
                self._by_patient(), PRIVATE_PRESETS[self.study.generator.preset], self._privacy(paid),
                Phantoms(ENDOSCOPY, self.study.image.size_px, self.study.image.channels),
                seed=self._seed("train", "private"), device=device, checkpoint=checkpoint,
                on_progress=teller(progress, estimate_of_one(), device),
            )  # fmt: skip
        except (MemoryError, RuntimeError) as error:
            ending = of_the_machine(error, device)
            if ending is None:
                raise
            raise ending.error() from error
        generator.save(self._generator)
        commit(self.store, paid.seq)
        checkpoint.remove()
        return {}

    def critic_scores(self, _pairs: Sequence[Pair], /) -> list[float]:
        """None: the critic is not kept."""
        return []

    def wells(self) -> Iterator[Well]:
        """The one generator."""
        generator = PrivateCohortGenerator.load(self._generator)
        yield Well("private", self.wanted, None, lambda key, count: generator.sample(self._seed("sample", key), count))

    @property
    def _folder(self) -> Path:
        return private_folder(self.store.folder / "generators" / self.study_sha256[:16])

    @property
    def _generator(self) -> Path:
        return self._folder / GENERATOR_FILE

    def _seed(self, *parts: str) -> int:
        return self.store.seed(*parts, self.study_sha256)

    def _by_patient(self) -> list[Sequence[Pair]]:
        """Of each patient the pairs, read when they are asked for.

        At the study's size, enlarged where they are smaller: a refusal because of one patient's image would tell of it.
        """
        of: dict[str, list[Case]] = {}
        for case in self.cases:
            of.setdefault(case.patient, []).append(case)
        return [LazyPairs(own, lambda case: case.load_for(self.study.image)) for own in of.values()]

    # What was paid

    def _own(self) -> list[Fact]:
        """The noised trainings for this release, oldest first."""
        with self.store.reading.begin() as connection:
            found = facts(connection, ledger)
        own = [f for f in found if f.subject == self.release_id and f.kind == "training" and f.noised is not None]
        return sorted(own, key=lambda fact: fact.seq)

    def _paid_before(self) -> tuple[Fact, PrivateCheckpoint] | None:
        """The reservation of a job that was killed, if its steps can be gone on with."""
        own = self._own()
        if not own or own[-1].state != RESERVED:
            return None
        checkpoint = self._checkpoint(own[-1])
        return (own[-1], checkpoint) if checkpoint.resume(SPARE_STEPS) else None

    def _pay(self) -> tuple[Fact, PrivateCheckpoint]:
        """A new reservation, with the steps that kills may cost."""
        asked, schedule = self.study.privacy, SCHEDULES[self.study.generator.preset]
        if asked.epsilon is None or asked.delta is None:
            raise ValueError("a study in mode dp states epsilon and delta")
        steps = schedule.steps + SPARE_STEPS
        try:
            sigma = sigma_for(asked.epsilon, asked.delta, q=schedule.q, steps=steps)
        except ValueError as error:
            raise SynthwardError(
                "policy.dp-epsilon",
                f"no noise makes {steps} steps cost epsilon {asked.epsilon:.4g} at delta {asked.delta:.3g}",
                do="ask the study's lead for a larger epsilon",
            ) from error
        reading = Reading(
            PoissonSampledGaussian(sigma, schedule.q, steps), "training", self.study_sha256, self.release_id,
            who="trainer", clip=schedule.clip, delta=asked.delta, patients=len({case.patient for case in self.cases}),
        )  # fmt: skip
        seq = reserve(self.store, reading, self.policy, own_epsilon=asked.epsilon)
        paid = next(fact for fact in self._own() if fact.seq == seq)
        checkpoint = self._checkpoint(paid)
        checkpoint.begin()
        return paid, checkpoint

    def _checkpoint(self, paid: Fact) -> PrivateCheckpoint:
        """Of this very reservation: another one's state is not gone on from."""
        named = f"{paid.seq}:{paid.noised}:{PRIVATE_PRESETS[self.study.generator.preset]}:{self.study_sha256}"
        return PrivateCheckpoint(self._folder / CHECKPOINT_FILE, hashlib.sha256(named.encode()).hexdigest())

    def _privacy(self, paid: Fact) -> Privacy:
        """The mechanism as it was paid for, without the steps to spare."""
        if paid.noised is None or not isinstance(paid.noised.event, PoissonSampledGaussian):
            raise ValueError("a private training is paid for as one")
        event = paid.noised.event
        return Privacy(event.sigma, paid.noised.clip, event.q, event.steps - SPARE_STEPS)

    def _settle(self, generator: PrivateCohortGenerator) -> None:
        """Commits the reservation of a generator that lies there: its job was killed after it had saved it."""
        own = self._own()
        if own:
            paid = self._privacy(own[-1])
            if [(s.sigma, s.clip, s.q, s.steps) for s in generator.spent] == [
                (paid.sigma, paid.clip, paid.q, paid.steps)
            ]:
                commit(self.store, own[-1].seq)
                return
        raise SynthwardError(
            "trust.ledger",
            f"the generator in {self._folder} was paid for otherwise than the ledger says, or not at all",
            why="a release from it would state an epsilon that its training did not keep",
            do="restore the ledger's last backup, or delete that folder: the training is then paid for anew",
        )
