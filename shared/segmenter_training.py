"""Training the segmenter: the same number of steps, batch size, augmentation and seed in every arm.

A pair is read when a batch needs it, so a sequence that decodes on access keeps one batch of images in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional

from shared.augment import augment
from shared.errors import SynthwardError
from shared.pairs import Pair, check_mask
from shared.segmenter import Segmenter, build, image_tensor
from shared.study import EvaluationSpec, ImageSpec

WEIGHT_DECAY = 1e-4
# Over this share of the steps the learning rate rises: the decoder's first gradients would else upset the encoder.
WARM_UP = 0.05


def train(
    pairs: Sequence[Pair],
    spec: EvaluationSpec,
    image: ImageSpec,
    *,
    on_step: Callable[[int, int], None] | None = None,
) -> Segmenter:
    """A segmenter after exactly spec.steps optimiser steps on pairs, in evaluation mode.

    pairs: at least one, of the study's size and channels, masks of 0 and 255. on_step is told (steps done, spec.steps)
    after each. Raises pairs.shape and pairs.mask-not-binary before the first step, dataset.empty without a pair, and
    training.diverged when the loss is not finite. PyTorch's global generator is left as it was.
    """
    if not pairs:
        raise SynthwardError("dataset.empty", "there is no pair to train a segmenter on")
    for pair in pairs:
        _tensors(pair, image)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model = build(spec, image)
    rng = torch.Generator().manual_seed(spec.seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, spec.steps))
    order = shuffled(len(pairs), rng)
    model.train()
    for step in range(1, spec.steps + 1):
        drawn = [_tensors(pairs[index], image) for index in islice(order, spec.batch_size)]
        images, masks = augment(torch.stack([i for i, _ in drawn]), torch.stack([m for _, m in drawn]), rng)
        loss = segmentation_loss(model(images), masks)
        if not torch.isfinite(loss):
            raise SynthwardError(
                "training.diverged",
                f"the segmenter's loss is not finite at step {step} of {spec.steps}",
                do=f"publish the study with a learning rate under {spec.learning_rate:g}",
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if on_step is not None:
            on_step(step, spec.steps)
    return model.eval()


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


def _tensors(pair: Pair, image: ImageSpec) -> tuple[Tensor, Tensor]:
    """float32 [C, S, S] in [0, 1] and float32 [1, S, S] in {0, 1}. Raises pairs.shape and pairs.mask-not-binary."""
    check_mask(pair.mask)
    return image_tensor(pair.image, image), torch.from_numpy(pair.mask >= 128)[None].float()
