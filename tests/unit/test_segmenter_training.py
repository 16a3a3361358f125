"""Training a segmenter: what goes on from where, what each batch is made of, and which checkpoint is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared import segmenter_training
from shared.augment import Augmentation
from shared.errors import SynthwardError
from shared.pairs import Pair
from shared.segmenter import Segmenter, to_arrays
from shared.segmenter_training import set_aside, train, validation_iou
from shared.study import EvaluationSpec, ImageSpec
from shared.weights import digest
from tests.unit.test_segmenter import disc

IMAGE = ImageSpec(size_px=32)
BRIEF = EvaluationSpec(steps=4, batch_size=4)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def taught() -> Segmenter:
    torch.set_num_threads(1)
    spec = EvaluationSpec(steps=40, batch_size=8, learning_rate=4e-3)
    return train([disc(seed) for seed in range(24)], spec, IMAGE, seed=0)


@dataclass
class Counted(Sequence[Pair]):
    """Discs, and which of them were read."""

    size: int
    read: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | Sequence[Pair]:
        assert isinstance(index, int)
        if index >= self.size:
            raise IndexError
        self.read.append(index)
        return disc(index)


def test_a_network_goes_on_from_where_another_stopped_and_leaves_that_as_it_was(taught: Segmenter) -> None:
    before, unseen = digest(to_arrays(taught)), [disc(seed) for seed in range(100, 110)]
    careful = BRIEF.model_copy(update={"learning_rate": 1e-6})
    pairs = [disc(seed) for seed in range(8)]
    onward = train(pairs, careful, IMAGE, seed=0, start=taught)
    anew = train(pairs, careful, IMAGE, seed=0)

    assert digest(to_arrays(taught)) == before
    steps = [float((a - b).abs().max().detach()) for a, b in zip(onward.parameters(), taught.parameters(), strict=True)]
    assert 0.0 < max(steps) < 1e-4
    assert validation_iou(onward, unseen) > validation_iou(anew, unseen) + 0.3


def test_half_of_each_batch_is_of_the_pairs_and_half_of_those_beside_them() -> None:
    own, others = Counted(3), Counted(5)
    train(own, BRIEF, IMAGE, seed=0, beside=others)

    for part in (own, others):
        checked, trained = part.read[: part.size], part.read[part.size :]
        assert checked == list(range(part.size))
        assert len(trained) == BRIEF.steps * BRIEF.batch_size // 2
        assert set(trained) == set(range(part.size))


def test_without_pairs_beside_them_whole_batches_are_of_the_pairs() -> None:
    own = Counted(3)
    train(own, BRIEF, IMAGE, seed=0)

    assert len(own.read) == own.size + BRIEF.steps * BRIEF.batch_size


@pytest.mark.parametrize(("ious", "kept"), [((0.9, 0.5, 0.4), 0), ((0.5, 0.9, 0.4), 1), ((0.1, 0.1, 0.1), 2)])
def test_the_checkpoint_that_did_best_on_the_validation_pairs_is_kept(
    monkeypatch: pytest.MonkeyPatch, ious: tuple[float, ...], kept: int
) -> None:
    looked: list[str] = []

    def scored(model: Segmenter, pairs: Sequence[Pair]) -> float:
        assert [pair.image.sum() for pair in pairs] == [disc(9).image.sum()]
        looked.append(digest(to_arrays(model)))
        return ious[len(looked) - 1]

    monkeypatch.setattr(segmenter_training, "validation_iou", scored)
    model = train([disc(1), disc(2)], BRIEF, IMAGE, seed=0, validation=[disc(9)])

    assert len(set(looked)) == 3
    assert digest(to_arrays(model)) == looked[kept]
    assert not model.training


def test_validation_changes_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    ever_better = iter([0.1, 0.2, 0.3])
    monkeypatch.setattr(segmenter_training, "validation_iou", lambda model, _: model.eval() and next(ever_better))
    told: list[tuple[int, int]] = []
    validated = train(
        [disc(1), disc(2)], BRIEF, IMAGE, seed=0, validation=[disc(9)], on_step=lambda *of: told.append(of)
    )

    assert told == [(step, BRIEF.steps) for step in range(1, BRIEF.steps + 1)]
    assert digest(to_arrays(validated)) == digest(to_arrays(train([disc(1), disc(2)], BRIEF, IMAGE, seed=0)))


def test_validation_iou_is_the_mean_over_pairs(taught: Segmenter) -> None:
    each = [validation_iou(taught, [disc(seed)]) for seed in (3, 4)]
    assert validation_iou(taught, [disc(3), disc(4)]) == pytest.approx(sum(each) / 2)
    assert min(each) > 0.5


def test_every_option_together_gives_the_same_network_twice() -> None:
    def trained(augmentation: Augmentation) -> str:
        model = train(
            [disc(1), disc(2)], BRIEF, IMAGE,
            seed=3, beside=[disc(4)], steps=2, augmentation=augmentation, validation=[disc(5)],
        )  # fmt: skip
        return digest(to_arrays(model))

    state = torch.get_rng_state()
    found = {augmentation: trained(augmentation) for augmentation in segmenter_training._AUGMENT}
    assert trained("classical") == found["classical"]
    assert len(set(found.values())) == 3
    assert torch.equal(torch.get_rng_state(), state)


def test_a_pair_that_is_not_the_studys_is_refused_wherever_it_stands() -> None:
    small = Pair(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8))
    for further in ({"beside": [small]}, {"validation": [small]}):
        with pytest.raises(SynthwardError) as refusal:
            train([disc(1)], BRIEF, IMAGE, seed=0, on_step=lambda *_: pytest.fail("a step was taken"), **further)
        assert refusal.value.code == "pairs.shape"


@given(
    groups=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_patient_is_never_on_both_sides(groups: list[str], share: float, seed: int) -> None:
    items = list(enumerate(groups))
    if len(set(groups)) < 2:
        with pytest.raises(SynthwardError) as refusal:
            set_aside(items, groups, share=share, seed=seed)
        assert refusal.value.code == "dataset.empty"
        return
    fit, validation = set_aside(items, groups, share=share, seed=seed)

    assert sorted(fit + validation) == items
    assert fit == sorted(fit)
    assert fit
    assert validation
    fitted, validated = ({group for _, group in part} for part in (fit, validation))
    assert not fitted & validated
    assert len(validated) == min(len(set(groups)) - 1, max(1, round(share * len(set(groups)))))
    assert (fit, validation) == set_aside(items, groups, share=share, seed=seed)


def test_another_seed_sets_others_aside() -> None:
    items = list(range(20))
    assert len({tuple(set_aside(items, [str(i) for i in items], seed=seed)[1]) for seed in range(8)}) > 1
