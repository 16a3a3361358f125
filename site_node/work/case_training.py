"""One case's training from its files to its generator's file: the same in the job, a worker process, and on a cluster.

Promise: a generator is there whole or not at all, and one that is there is never trained again; a training that was cut
short goes on from its checkpoint; a case that cannot be trained ends with a code and leaves nothing behind. What is
neither the case's nor the machine's fault is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from shared.errors import SynthwardError
from shared.pairs import Pair
from shared.study import ImageSpec
from site_node.cases import Case
from site_node.generators.per_case.presets import Preset
from site_node.generators.per_case.singan_seg import train_case
from site_node.generators.progress import Progress

Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class CaseToTrain:
    """A case by its files, so that another process can read it; no patient key and no pixel.

    size: (height_px, width_px) of the pair as it is trained; folder: where the private pair lies; image: the study's.
    """

    case_id: str
    size: tuple[int, int]
    seed: int
    folder: Path
    image: ImageSpec

    @classmethod
    def of(cls, case: Case, image: ImageSpec, *, seed: int) -> CaseToTrain:
        """A private case at a study's size."""
        return cls(case.case_id, (image.size_px, image.size_px), seed, case.folder, image)

    def load(self) -> Pair:
        """The pair's pixels at the study's size and channels."""
        return Case(self.case_id, "", *self.size, self.folder).load_for(self.image)


def generator_file(folder: Path, case_id: str) -> Path:
    """Where a case's generator lies. It is patient data."""
    return folder / f"{case_id}.safetensors"


def checkpoint_file(folder: Path, case_id: str) -> Path:
    """Where a training that was cut short goes on from. It is patient data."""
    return folder / f"{case_id}.checkpoint.safetensors"


@dataclass(frozen=True)
class Task:
    """A case that is handed to somebody to train. folder: of the generators; alone: no other case trains meanwhile."""

    case: CaseToTrain
    preset: Preset
    folder: Path
    device: str = "cpu"
    alone: bool = False

    @property
    def generator(self) -> Path:
        """The generator's file."""
        return generator_file(self.folder, self.case.case_id)

    @property
    def checkpoint(self) -> Path:
        """Where the training stands; gone once the generator is there."""
        return checkpoint_file(self.folder, self.case.case_id)


@dataclass(frozen=True)
class Ending:
    """How a case's training ended: an empty code when its generator is there, else an error's code and words."""

    code: str = ""
    what: str = ""
    why: str = ""
    do: str = ""

    def error(self) -> SynthwardError:
        """The error, for whoever cannot go on."""
        return SynthwardError(self.code, self.what, why=self.why, do=self.do)


Train = Callable[[Task, Tell], Ending]

MEMORY = "training.memory"
DEVICE = "training.device"
KILLED = "training.killed"


def train_one(task: Task, tell: Tell) -> Ending:
    """Trains a case and writes its generator. Raises what is no SynthwardError, lack of memory or lost device."""
    if task.generator.exists():
        return Ending()  # written by a process that was killed before it could say so
    try:
        generator = train_case(
            task.case.load(),
            task.preset,
            seed=task.case.seed,
            device=task.device,
            checkpoint=task.checkpoint,
            on_progress=tell,
        )
        generator.save(task.generator)
    except SynthwardError as error:
        return Ending(error.code, error.what, error.why, error.do)
    except (MemoryError, RuntimeError) as error:
        ending = of_the_machine(error, task.device)
        if ending is None:
            raise
        return ending
    task.checkpoint.unlink(missing_ok=True)
    return Ending()


def of_the_machine(error: Exception, device: str) -> Ending | None:
    """The ending where memory ran out or an accelerator went away; None for any other error.

    PyTorch has a type for the accelerator's memory alone: the CPU's, and the older drivers' errors, are told by text.
    """
    text = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in text:
        if device != "cpu":
            torch.cuda.empty_cache()  # else this process keeps what its next case, or another process, could use
        return Ending(
            MEMORY,
            f"there was not enough memory on {device} to train a case",
            do="train fewer cases at once (`workers` in settings.toml), or take a smaller study or preset",
        )
    if device != "cpu" and (isinstance(error, torch.AcceleratorError) or text.startswith(("CUDA", "cuDNN", "NVML"))):
        return Ending(
            DEVICE,
            f"{device} failed during training ({type(error).__name__})",
            why="a training that changes its device by itself ends with other weights",
            do='look at the machine\'s graphics driver, then start again; or set device = "auto" in settings.toml',
        )
    return None
