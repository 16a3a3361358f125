"""Membership: can somebody tell from the samples who was trained on?

The attack by distance is GAN-Leaks' (Chen et al., 2020), in the form that needs the released samples alone: a patient
whose image is unusually near to some sample, against how near it is to other patients' images, is taken for a member.
Hold-out patients are the non-members that the site can check it with. Data copying is measured by the test of Meehan
et al. (2020): whether samples lie nearer to training cases than hold-out cases do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from site_node.screening.report import Attack, Interval, Share
from site_node.screening.vectors import Vectors, unit

Scores = NDArray[np.float64]


class DistanceAttack:
    """GAN-Leaks' attack, sample by sample: how near each real case comes to its nearest sample."""

    def __init__(self, views: Vectors, training: int, patients: Sequence[str]) -> None:
        """views: [R, 8, D], the embedding of every real case in its eight positions, training cases first.

        training: how many of them are training cases; patients: whose each of the R is.
        """
        self._training = training
        self._patients = list(patients)
        self._mean = views[:training, 0].mean(0)
        self._bank = unit(views[:, 0] - self._mean)  # [R, D]
        # As many training cases as hold-out cases, so that neither side is nearer for being larger.
        few = min(training, len(views) - training)
        self._matched = np.linspace(0, training - 1, few).astype(int), np.arange(training, training + few)
        self._nearer = [0, 0]  # samples nearer to a training case, to a hold-out case
        self._nearest = np.full(len(views), -1.0)
        # A case that looks like many patients is near to some sample without having been learnt.
        whose = np.asarray(patients)
        self._expected = np.asarray(
            [
                self._likeness(view)[whose != patient].max(initial=-1.0)
                for view, patient in zip(views, whose, strict=True)
            ]
        )

    def _likeness(self, view: Vectors) -> Scores:
        """[R]: the largest cosine of any position with each real case."""
        return np.asarray((self._bank @ unit(view - self._mean).T).max(1), np.float64)

    def add(self, view: Vectors) -> None:
        """A released sample. view: [8, D]."""
        likeness = self._likeness(view)
        self._nearest = np.maximum(self._nearest, likeness)
        of_training, of_holdout = (likeness[side].max(initial=-1.0) for side in self._matched)
        self._nearer[0] += bool(of_training > of_holdout)
        self._nearer[1] += bool(of_training < of_holdout)

    def nearer_to_training(self) -> Share:
        """Samples whose nearest real case is a training case, not a hold-out case, of equally many of each.

        One in two without copying, however soft or typical the samples are: that moves both sides alike, where the
        test of Meehan et al. compares samples with hold-out images, which are sharp.
        """
        return Share.of(self._nearer[0], sum(self._nearer))

    def result(self, limit: float | None) -> Attack:
        """The attack on patients, training against hold-out."""
        return _attack("distance", list(self._nearest - self._expected), self._training, self._patients, limit)


def critic_attack(scores: Sequence[float], training: int, patients: Sequence[str]) -> Attack:
    """LOGAN's attack (Hayes et al., 2019): the critic's score of each real case, training cases first.

    Only the site has the critic: this is what the training remembers, not what a receiver could find out.
    """
    return _attack("critic", scores, training, patients, None)


def _attack(
    name: Literal["distance", "critic"], scores: Sequence[float], training: int, patients: Sequence[str],
    limit: float | None,
) -> Attack:  # fmt: skip
    """By the scores of real cases, the larger the likelier a member; the first `training` of them are the members."""
    members = by_patient(scores[:training], patients[:training])
    others = by_patient(scores[training:], patients[training:])
    return Attack(
        name=name,
        auc=area_under_curve(members, others),
        true_positives_at_1=true_positives_at(members, others, 0.01),
        limit=limit,
    )


def by_patient(scores: Sequence[float], patients: Sequence[str]) -> Scores:
    """The largest score of each patient: the unit that is attacked."""
    largest: dict[str, float] = {}
    for score, patient in zip(scores, patients, strict=True):
        largest[patient] = max(score, largest.get(patient, -np.inf))
    return np.asarray([largest[patient] for patient in sorted(largest)], np.float64)


def area_under_curve(members: Scores, others: Scores) -> Interval:
    """The probability that a member scores above a non-member, with Hanley and McNeil's 95 % interval (1982)."""
    m, n = len(members), len(others)
    if not m or not n:
        return Interval(value=0.5, low=0.0, high=1.0)
    ranks = rankdata(np.concatenate([members, others]))
    area = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = (area * (1 - area) + (m - 1) * (q1 - area * area) + (n - 1) * (q2 - area * area)) / (m * n)
    # At an area of 0 or 1 the formula's variance is 0; a perfect ranking of few patients is no certainty.
    width = 1.96 * max(np.sqrt(max(variance, 0.0)), 0.5 / np.sqrt(m * n))
    return Interval(value=round(area, 4), low=round(max(0.0, area - width), 4), high=round(min(1.0, area + width), 4))


def true_positives_at(members: Scores, others: Scores, false_positives: float) -> Interval:
    """The share of members above the threshold that this share of non-members passes (Carlini et al., 2022).

    With fewer than 1 / false_positives non-members the threshold is the largest non-member. The interval is Wilson's,
    of the members alone.
    """
    if not len(members) or not len(others):
        return Interval(value=0.0, low=0.0, high=1.0)
    threshold = float(np.quantile(others, 1.0 - false_positives, method="higher"))
    found = Share.of(int((members > threshold).sum()), len(members))
    return Interval(value=round(found.k / found.n, 4), low=found.low, high=found.high)


def copying_z(samples: Sequence[float], holdout: Sequence[float]) -> float:
    """Meehan et al.'s Z: of Mann and Whitney's U between distances to the nearest training case.

    samples, holdout: nearness (the larger, the nearer) to the nearest training case. Below about -3, samples lie nearer
    than hold-out cases do, beyond chance: copying. 0 without either.
    """
    m, n = len(samples), len(holdout)
    if not m or not n:
        return 0.0
    distances = -np.concatenate([np.asarray(samples, np.float64), np.asarray(holdout, np.float64)])
    u = float(rankdata(distances)[:m].sum() - m * (m + 1) / 2)
    return round((u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12), 2)
