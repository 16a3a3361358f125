"""`faithful` is the authors' training without what it wastes: the same losses and weights, for less work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from site_node.generators.inputs import as_tensor, stream
from site_node.generators.per_case import singan_seg
from site_node.generators.per_case.checkpoints import Checkpoint
from site_node.generators.per_case.plan import plan_case
from site_node.generators.per_case.presets import FAITHFUL
from site_node.generators.per_case.pyramid import BlockConfig, Critic, ScaleGenerator, folded, pad, rebuilding_noise
from site_node.generators.per_case.training import Losses, ScaleTraining
from site_node.generators.scaling import Size
from tests import reference_singan as reference

SIZE: Size = (27, 24)
ITERATIONS = 5
# Three scales of widths 4, 4 and 8: the second starts from the first's weights, the third anew. The rate drops before
# the last iteration.
SMALL = replace(FAITHFUL, width=4, widest=8, double_every=2, shortest_px=13, max_scales=3, iterations=(ITERATIONS,))
SEED, SECRETS = 3, (b"image", b"masks")


def small_case() -> singan_seg._Case:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    masks = np.zeros((*SIZE, 1), np.uint8)
    masks[8:20, 6:17] = 255
    return singan_seg._Case(as_tensor(image, masks).double(), plan_case(SIZE, 4, SMALL), SEED, SECRETS)


def fresh(scale: int, random: torch.Generator) -> tuple[reference.Weights, reference.Weights]:
    config = BlockConfig(4, SMALL.width_of(scale), "batch")
    networks = (ScaleGenerator(config, random).double(), Critic(config, random).double())
    return reference.copied(networks[0].state_dict()), reference.copied(networks[1].state_dict())


def test_the_losses_and_weights_are_those_of_the_authors_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    case = small_case()
    losses: list[tuple[float, ...]] = []
    weights: list[reference.Weights] = []
    advance = ScaleTraining.advance

    def recording(self: ScaleTraining) -> Losses:
        found = advance(self)
        losses.append((*found.critic, found.adversarial, found.rebuilt))
        if self.ended:
            weights.append(reference.copied(self.generator.state_dict()))
        return found

    monkeypatch.setattr(ScaleTraining, "advance", recording)
    scales = singan_seg._train_scales(case, SMALL, 0, Checkpoint(None, "", 0.0), None, None)

    sizes = case.plan.scales
    assert [SMALL.width_of(index) for index in range(len(sizes))] == [4, 4, 8]
    drop = int(ITERATIONS * FAITHFUL.decay_at)
    assert 0 < drop < ITERATIONS
    expected = reference.train(
        [case.real(size) for size in sizes],
        rebuilding_noise(4, sizes[0], SEED, *SECRETS).double(),
        fresh,
        stream("train", SEED, *SECRETS),
        reference.Schedule(iterations=ITERATIONS, drop_at=drop),
    )
    np.testing.assert_allclose(losses, [loss for scale in expected.losses for loss in scale], rtol=0, atol=1e-10)
    assert [scale.amplitude for scale in scales] == pytest.approx(expected.amplitudes, abs=1e-12)
    assert len(weights) == len(expected.weights) == 3
    for mine, theirs in zip(weights, expected.weights, strict=True):
        for name in theirs:
            if not name.endswith("num_batches_tracked"):
                torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=1e-10, msg=name)


def test_the_reference_keeps_the_authors_waste() -> None:
    # One generator pass in place of three gives other weights: BatchNorm's running statistics count passes.
    case = small_case()
    real, z_star = case.real(case.plan.scales[0]), rebuilding_noise(4, case.plan.scales[0], SEED, *SECRETS).double()
    statistics = []
    for passes in (1, 3):
        schedule = reference.Schedule(iterations=2, generator_steps=passes)
        found = reference.train([real], z_star, fresh, stream("train", SEED), schedule)
        statistics.append(found.weights[0]["trunk.layers.1.running_var"])
    assert not torch.allclose(*statistics, rtol=1e-3)


def test_a_folded_generator_gives_what_the_normed_one_gives() -> None:
    random = torch.Generator().manual_seed(0)
    generator = ScaleGenerator(BlockConfig(5, 8, "batch"), random).double()
    base = torch.rand(2, 5, 20, 17, generator=random, dtype=torch.float64)
    for _ in range(3):
        generator(pad(base), base)  # in train mode: moves the running statistics
    plain = folded(generator)
    with torch.no_grad():
        expected = generator.eval()(pad(base), base)
    torch.testing.assert_close(plain(pad(base), base), expected, rtol=0, atol=1e-12)
    assert plain.config == BlockConfig(5, 8, "none")
    assert not any(parameter.requires_grad for parameter in plain.parameters())
