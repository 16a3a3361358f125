"""The pictures, as PNG answers: to a steward whose session has opened the release, kept by no cache."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response

from site_node.airlock.review_app.context import Parts, SignedIn, SignInNeeded
from site_node.airlock.review_app.desk import Desk, near_of
from site_node.airlock.review_app.pictures import difference, drawn, picture_px, plain, turned_to_fit
from site_node.airlock.review_app.sessions import Session
from site_node.airlock.workflow import Release
from site_node.screening.report import CheckName

router = APIRouter()
_SMALL_PX = 144


@router.get("/releases/{release_id}/pictures/{sha256}/{kind}.png")
def of_sample(
    context: Parts, session: SignedIn, release_id: str, sha256: str, kind: Literal["small", "large", "image", "mask"]
) -> Response:
    """A sample: with its mask's outline, small or large; or its image or mask alone, pixel by pixel."""
    release = _opened(context.desk, session, release_id)
    pair = context.desk.sample(release, sha256)
    side = picture_px(release.manifest.size_px)
    if kind == "small":
        return _png(drawn(pair, max(_SMALL_PX, release.manifest.size_px)))
    if kind == "large":
        return _png(drawn(pair, side))
    return _png(plain(pair.image if kind == "image" else pair.mask, side))


@router.get("/releases/{release_id}/nearest/{check}/{place}/{kind}.png")
def of_nearest(
    context: Parts, session: SignedIn, release_id: str, check: CheckName, place: int,
    kind: Literal["sample", "real", "difference"],
) -> Response:  # fmt: skip
    """What came nearest in a check: the sample, the real image turned to fit it, and how they differ."""
    release = _opened(context.desk, session, release_id)
    near = near_of(release, check, place)
    sample, side = context.desk.sample(release, near.sample), picture_px(release.manifest.size_px)
    if kind == "sample":
        return _png(drawn(sample, side))
    real = turned_to_fit(sample.image, context.desk.real(release, near.case_id))
    if kind == "real":
        return _png(drawn(real, side))
    return _png(plain(difference(sample.image, real.image), side))


def _opened(desk: Desk, session: Session, release_id: str) -> Release:
    release = desk.opened(session, release_id)
    if release is None:
        raise SignInNeeded
    return release


def _png(data: bytes) -> Response:
    return Response(data, media_type="image/png")
