"""Many small details in the same arrangement: SIFT, matched across all training images, held together by RANSAC.

Lowe (2004); RootSIFT by Arandjelovic and Zisserman (2012). The score is the number of a similarity transform's inliers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from shared.pairs import Pair, Pixels
from site_node.screening.interface import Nearness, patient_numbers
from site_node.screening.report import CheckName
from site_node.screening.residual import grey, lit

SIDE_PX = 256
MOST_POINTS = 160
RATIO = 0.8
_CONTRAST = 0.015  # below OpenCV's own: mucosa has little
_CANDIDATES = 6
_TRIED = 3  # training images, those with the most matches
_REPROJECTION_PX = 4.0
_RIM_PX = 13


@dataclass(frozen=True)
class Points:
    """points: float32 [P, 2] in pixels at SIDE_PX; descriptors: float32 [P, 128], length 1."""

    points: NDArray[np.float32]
    descriptors: NDArray[np.float32]


class Features:
    """Training images under any similarity transform, and mirrored, as long as enough of their detail is left."""

    name: CheckName = "features"

    def describe(self, pair: Pair) -> Points:
        """The strongest points of an image."""
        return points(pair.image)

    def fit(self, described: Sequence[Points], patients: Sequence[str], /) -> None:
        """Takes the training images' points."""
        self._described = list(described)
        self._case = np.repeat(np.arange(len(described)), [len(some.points) for some in described])
        self._patient = patient_numbers(patients)[self._case]
        self._first = np.cumsum([0, *(len(some.points) for some in described)])
        stacked = np.concatenate([*(some.descriptors for some in described), np.zeros((0, 128), np.float32)])
        self._bank = torch.from_numpy(stacked)

    def nearest(self, pair: Pair) -> Nearness:
        """The number of points that agree with one training image."""
        both = (pair.image, np.ascontiguousarray(pair.image[:, ::-1]))  # SIFT knows turns, not mirrors
        return max((self._matched(points(image)) for image in both), key=lambda nearness: nearness.score)

    def _matched(self, query: Points) -> Nearness:
        if len(query.points) < 3 or len(self._bank) < _CANDIDATES:
            return Nearness(0.0, None)
        top = (torch.from_numpy(query.descriptors) @ self._bank.T).topk(_CANDIDATES, dim=1)
        likeness, index = top.values.numpy(), top.indices.numpy()
        other = self._patient[index] != self._patient[index[:, :1]]
        second = np.where(other.any(1), other.argmax(1), _CANDIDATES - 1)
        distances = np.sqrt(np.maximum(2.0 - 2.0 * likeness, 0.0))
        good = distances[:, 0] < RATIO * distances[np.arange(len(distances)), second]
        votes = np.bincount(self._case[index[good, 0]], minlength=1)
        best = Nearness(0.0, None)
        for case in np.argsort(-votes, kind="stable")[:_TRIED]:
            chosen = good & (self._case[index[:, 0]] == case)
            if chosen.sum() < 3:
                continue
            there = self._described[case].points[index[chosen, 0] - self._first[case]]
            _, inliers = cv2.estimateAffinePartial2D(
                query.points[chosen], there, method=cv2.RANSAC, ransacReprojThreshold=_REPROJECTION_PX
            )
            score = 0.0 if inliers is None else float(inliers.sum())
            if score > best.score:
                best = Nearness(score, int(case))
        return best


def points(image: Pixels) -> Points:
    """SIFT at SIDE_PX, away from the rim of the lit part."""
    plane = cv2.resize(grey(image), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    plane = np.clip(plane, 0, 255).astype(np.uint8)
    mask = cv2.erode(lit(plane.astype(np.float32)).astype(np.uint8), np.ones((_RIM_PX, _RIM_PX), np.uint8))
    # Made anew each time: OpenCV does not say that one detector may serve several threads.
    detector = cv2.SIFT_create(nfeatures=MOST_POINTS, contrastThreshold=_CONTRAST)  # type: ignore[attr-defined]
    found, descriptors = detector.detectAndCompute(plane, mask * 255)
    if descriptors is None:
        return Points(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    rooted = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-6))
    return Points(np.asarray([point.pt for point in found], np.float32), np.asarray(rooted, np.float32))
