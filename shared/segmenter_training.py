"""Training the segmenter: the same number of steps and batch size in every arm, and the augmentation that it names.

A pair is read when a batch needs it, so a sequence that decodes on access keeps one batch of images in memory.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from shared.augment import Augmentation, augment
from shared.classical_augmentation import augment_classically
from shared.errors import SynthwardError
from shared.metrics import case_metrics
from shared.pairs import Pair, check_mask
from shared.segmenter import Segmenter, build, image_tensor, predict
from shared.study import EvaluationSpec, ImageSpec

WEIGHT_DECAY = 1e-4
# Over this share of the steps the learning rate rises: the decoder's first gradients would else upset the encoder.
WARM_UP = 0.05
# After these shares of the steps a network is scored on its validation pairs, where it has some.
CHECKPOINTS = (0.5, 0.75, 1.0)
VALIDATION_SHARE = 0.15

Batch = tuple[Tensor, Tensor]  # images float32 [B, C, S, S] in [0, 1], masks float32 [B, 1, S, S] in {0, 1}
Item = TypeVar("Item")
_AUGMENT: dict[Augmentation, Callable[[Tensor, Tensor, torch.Generator], Batch]] = {
    "full": augment,
    "none": lambda images, masks, _: (images, masks),
    "classical": augment_classically,
}


def train(
    pairs: Sequence[Pair],
    spec: EvaluationSpec,
    image: ImageSpec,
    *,
    seed: int,
    beside: Sequence[Pair] = (),
    start: Segmenter | None = None,
    steps: int | None = None,
    augmentation: Augmentation = "full",
    validation: Sequence[Pair] = (),
    weights: Path | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Segmenter:
    """A segmenter after exactly `steps` optimiser steps on pairs, in evaluation mode.

    pairs: at least one, of the study's size and channels, masks of 0 and 255. beside: further pairs, which then make
    half of each batch. start: goes on from this network's weights, and leaves it as it was. steps: spec.steps unless
    given. validation: the network is scored on these after half, three quarters and all of the steps, and the best is
    returned; never those that are reported. weights: see shared.segmenter.build. on_step is told (steps done, steps)
    after each.

    Raises pairs.shape and pairs.mask-not-binary before the first step, dataset.empty without a pair, weights.mismatch,
    and training.diverged when the loss is not finite. PyTorch's global generator is left as it was.
    """
    if not pairs:
        raise SynthwardError("dataset.empty", "there is no pair to train a segmenter on")
    for part in (pairs, beside, validation):
        for pair in part:
            _tensors(pair, image)
    steps = spec.steps if steps is None else steps
    model = _first(spec, image, seed, start, weights)
    rng = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps))
    batches = _batches(pairs, beside, spec.batch_size, image, rng)
    best = _Best(validation, steps)
    model.train()
    for step in range(1, steps + 1):
        images, masks = _AUGMENT[augmentation](*next(batches), rng)
        loss = segmentation_loss(model(images), masks)
        if not torch.isfinite(loss):
            raise SynthwardError(
                "training.diverged",
                f"the segmenter's loss is not finite at step {step} of {steps}",
                do=f"publish the study with a learning rate under {spec.learning_rate:g}",
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        best.look(model, step)
        if on_step is not None:
            on_step(step, steps)
    return best.of(model).eval()


def set_aside(
    items: Sequence[Item], groups: Sequence[str], *, share: float = VALIDATION_SHARE, seed: int
) -> tuple[list[Item], list[Item]]:
    """(fit, validation): whole groups of items, in the order in which they came, drawn by the seed.

    groups: of each item, its patient; a synthetic pair is a group of its own. share: of the groups, in (0, 1), that
    validate, rounded, and at least one on either side. Raises dataset.empty for fewer than two groups.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise SynthwardError(
            "dataset.empty",
            f"{len(items)} pairs of {len(names)} patients cannot be parted into pairs to fit and pairs to validate",
            why="a network is chosen on pairs of patients whom it was not trained on",
            do="take two patients or more",
        )
    drawn = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {names[i] for i in drawn[: min(len(names) - 1, max(1, round(share * len(names))))]}
    both = list(zip(items, groups, strict=True))
    return [i for i, group in both if group not in chosen], [i for i, group in both if group in chosen]


def rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step counted from 0: a line up, under half a cosine that ends near 0."""
    return min(1.0, (step + 1) / max(1.0, WARM_UP * steps)) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def shuffled(count: int, rng: torch.Generator) -> Iterator[int]:
    """Endless indices under count: one shuffled epoch after the other, each index once an epoch."""
    while True:
        yield from torch.randperm(count, generator=rng).tolist()


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy plus (1 - soft Dice), the latter by image. Both float32 [B, 1, H, W]; returns a scalar."""
    probabilities = torch.sigmoid(logits)
    overlap = (probabilities * masks).sum((1, 2, 3))
    total = probabilities.sum((1, 2, 3)) + masks.sum((1, 2, 3))
    dice = (2.0 * overlap + 1.0) / (total + 1.0)
    return functional.binary_cross_entropy_with_logits(logits, masks) + (1.0 - dice).mean()


def _first(
    spec: EvaluationSpec, image: ImageSpec, seed: int, start: Segmenter | None, weights: Path | None
) -> Segmenter:
    """The network before its first step."""
    if start is not None:
        return copy.deepcopy(start)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(spec, image, weights)


class _Best:
    """The weights of the checkpoint that did best on the validation pairs: at most one copy of them is kept."""

    def __init__(self, validation: Sequence[Pair], steps: int) -> None:
        self._validation = validation
        self._at = {max(1, math.ceil(share * steps)) for share in CHECKPOINTS} if validation else set[int]()
        self._iou = -1.0
        self._state: dict[str, Tensor] = {}

    def look(self, model: Segmenter, step: int) -> None:
        """Scores the network, where the step is a checkpoint, and leaves it in training mode."""
        if step not in self._at:
            return
        found = validation_iou(model, self._validation)
        if found >= self._iou:  # of equals the one that was trained longest
            self._iou = found
            self._state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.train()

    def of(self, model: Segmenter) -> Segmenter:
        """The network with the best weights."""
        if self._state:
            model.load_state_dict(self._state)
        return model


def validation_iou(model: Segmenter, pairs: Sequence[Pair]) -> float:
    """Mean over pairs of the IoU, in [0, 1]. Leaves the model in evaluation mode."""
    found = [case_metrics(predict(model, pair.image), pair.mask >= 128).iou for pair in pairs]
    return math.fsum(found) / len(found)


def _batches(
    pairs: Sequence[Pair], beside: Sequence[Pair], size: int, image: ImageSpec, rng: torch.Generator
) -> Iterator[Batch]:
    """Endless batches of `size`: all of pairs, or half of them and half of beside, each shuffled by itself."""
    orders = [(part, shuffled(len(part), rng)) for part in (pairs, beside) if part]
    while True:
        drawn = [_tensors(part[i], image) for part, order in orders for i in islice(order, size // len(orders))]
        yield torch.stack([pixels for pixels, _ in drawn]), torch.stack([mask for _, mask in drawn])


def _tensors(pair: Pair, image: ImageSpec) -> tuple[Tensor, Tensor]:
    """float32 [C, S, S] in [0, 1] and float32 [1, S, S] in {0, 1}. Raises pairs.shape and pairs.mask-not-binary."""
    check_mask(pair.mask)
    return image_tensor(pair.image, image), torch.from_numpy(pair.mask >= 128)[None].float()
