"""A killed training goes on to the very weights it would have had, from a file that holds nothing of the case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.pairs import Pair
from site_node.generators.inputs import arrays_of, as_tensor
from site_node.generators.per_case import singan_seg
from site_node.generators.per_case.presets import DEMO, FAITHFUL, Preset
from site_node.generators.per_case.pyramid import rebuilding_noise
from site_node.generators.per_case.singan_seg import SinGanSeg, train_case
from site_node.generators.progress import Progress

# 25 iterations between two reports, so that one falls within a scale.
FAST_LIKE = replace(DEMO, name="tiny", shortest_px=14, max_scales=2, width=4, widest=4, iterations=(26,), bank=3)
FAITHFUL_LIKE = replace(FAITHFUL, shortest_px=14, max_scales=2, width=4, widest=4, iterations=(26,))
PRESETS = [FAST_LIKE, FAITHFUL_LIKE]


class Killed(Exception):
    """Stands in for a process that ends."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=PRESETS, ids=["fast", "faithful"])
def preset(request: pytest.FixtureRequest) -> Preset:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def undisturbed(preset: Preset) -> SinGanSeg:
    return train_case(case(), preset, seed=2)


def case(side: int = 18, *, seed: int = 0) -> Pair:
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    mask[5:12, 4:13] = 255
    return Pair(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), mask)


def train_until(stop: int, preset: Preset, path: Path, every_s: float = 0.0, pair: Pair | None = None) -> SinGanSeg:
    """Trains, and is killed at the report with that number."""
    reports: list[Progress] = []

    def report(progress: Progress) -> None:
        reports.append(progress)
        if len(reports) > stop:
            raise Killed

    return train_case(pair or case(), preset, seed=2, checkpoint=path, on_progress=report, checkpoint_every_s=every_s)


def assert_same(one: SinGanSeg, other: SinGanSeg) -> None:
    assert replace(one, scales=()) == replace(other, scales=())
    for mine, theirs in zip(one.scales, other.scales, strict=True):
        assert (mine.size, mine.amplitude) == (theirs.size, theirs.amplitude)
        weights = theirs.generator.state_dict()
        for name, tensor in mine.generator.state_dict().items():
            assert torch.equal(tensor, weights[name]), name


# Killed at the reports of iterations 25 and 26 of two scales; 3600: only what each scale's start wrote is there.
@pytest.mark.parametrize(("stop", "every_s"), [(0, 0.0), (0, 3600.0), (1, 0.0), (2, 3600.0), (3, 0.0)])
def test_a_killed_training_goes_on_to_the_same_weights(
    preset: Preset, undisturbed: SinGanSeg, tmp_path: Path, stop: int, every_s: float
) -> None:
    path = tmp_path / "case.checkpoint.safetensors"
    with pytest.raises(Killed):
        train_until(stop, preset, path, every_s)
    assert path.stat().st_mode & 0o077 == 0
    seen: list[Progress] = []
    resumed = train_case(case(), preset, seed=2, checkpoint=path, on_progress=seen.append)
    assert_same(resumed, undisturbed)
    assert len(seen) < 4 or stop < 2  # what was done is not done again
    # The caller removes the checkpoint, once the generator is saved.
    assert list(tmp_path.iterdir()) in ([], [path])


@given(st.lists(st.integers(0, 15), max_size=3))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_training_killed_at_any_steps_and_often_goes_on_to_the_same_weights(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int]
) -> None:
    path = tmp_path_factory.mktemp("work") / "case.checkpoint.safetensors"
    advance = singan_seg.ScaleTraining.advance
    short = replace(FAST_LIKE, iterations=(8,))
    steps = 0

    with pytest.MonkeyPatch.context() as patch:
        for stop in stops:
            steps = 0

            def dying(self: singan_seg.ScaleTraining, stop: int = stop) -> object:
                nonlocal steps
                steps += 1
                if steps > stop:
                    raise Killed
                return advance(self)

            patch.setattr(singan_seg.ScaleTraining, "advance", dying)
            try:
                train_case(case(), short, seed=2, checkpoint=path, checkpoint_every_s=0.0)
            except Killed:
                assert path.exists()
    resumed = train_case(case(), short, seed=2, checkpoint=path)
    assert_same(resumed, train_case(case(), short, seed=2))


def test_a_checkpoint_holds_neither_the_image_nor_the_noise_that_rebuilds_it(preset: Preset, tmp_path: Path) -> None:
    path = tmp_path / "case.checkpoint.safetensors"
    with pytest.raises(Killed):
        train_until(2, preset, path)  # within the second scale: the first is finished
    stored = path.read_bytes()
    source = case()
    whole = as_tensor(*arrays_of(source))
    z_star = rebuilding_noise(4, (14, 14), 2, source.image.tobytes(), source.mask.tobytes())[:, :1, 5:-5, 5:-5]
    reals = [whole, torch.nn.functional.interpolate(whole, (14, 14), mode="bicubic", antialias=True)]
    rows = [row for secret in (*reals, z_star) for plane in secret.flatten(0, 1) for row in plane if row.std() > 0]
    assert len(rows) > 100
    assert not any(row.contiguous().numpy().tobytes() in stored for row in rows)
    assert source.image[3].tobytes() not in stored
    planes = [plane.flatten().double() for secret in (*reals, z_star) for plane in secret.flatten(0, 1)]
    for name, tensor in safetensors.torch.load(stored).items():
        if tensor.dtype == torch.uint8:
            assert name.endswith(("random", "bank_start"))  # the stream's states
        else:
            # Only kernels, their moments and what there is one of for each channel: no room for a picture.
            assert tensor.ndim <= 1 or tensor.shape[-2:] == (3, 3), name
            for plane in planes:
                length = min(len(plane), tensor.numel())
                if length > 60 and float(tensor.std()) > 0:
                    both = torch.stack([tensor.flatten()[:length].double(), plane[:length]])
                    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.6, name


def test_the_stream_that_a_checkpoint_holds_does_not_lead_back_to_the_noise_that_rebuilds_the_image(
    tmp_path: Path,
) -> None:
    # z* has a stream of its own: the training's, from its very start on, never draws it.
    source = case()
    secrets = (source.image.tobytes(), source.mask.tobytes())
    z_star = rebuilding_noise(1, (14, 14), 2, *secrets)[0, 0, 5:-5, 5:-5].flatten()
    drawn = torch.randn(200_000, generator=singan_seg.stream("train", 2, *secrets))
    assert not torch.isin(z_star, drawn).all()
    assert torch.isclose(drawn[:, None], z_star[None, :3], rtol=0, atol=1e-7).all(dim=1).sum() == 0


@pytest.mark.parametrize("other", ["preset", "case", "damaged", "foreign"])
def test_a_checkpoint_that_does_not_fit_is_ignored_and_the_case_trained_anew(
    tmp_path: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "case.checkpoint.safetensors"
    with pytest.raises(Killed):
        train_until(
            1,
            replace(FAST_LIKE, reconstruction_weight=9.0) if other == "preset" else FAST_LIKE,
            path,
            pair=case(seed=1) if other == "case" else None,
        )
    if other == "damaged":
        path.write_bytes(path.read_bytes()[:-40])
    if other == "foreign":
        safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    seen: list[Progress] = []
    trained = train_case(case(), FAST_LIKE, seed=2, checkpoint=path, on_progress=seen.append)
    assert (seen[0].scale, seen[0].step) == (0, 25)
    assert_same(trained, train_case(case(), FAST_LIKE, seed=2))
    assert "ignored: training starts anew" in capsys.readouterr().out
