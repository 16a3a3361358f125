"""What import does about text in an image: refuse it, paint over it, crop to the field of view, or keep it.

Promise: an image goes in without text that the reader finds, or by the administrator's express choice. A lesion is not
painted over. A problem says where the text stands and how to get rid of it, never what it says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.errors import SynthwardError
from shared.pairs import Pair, Pixels
from site_node.intake.text_choice import TextAction, TextChoice
from site_node.intake.text_record import TextRecord
from site_node.text.field_of_view import Box, box_of, field_of_view
from site_node.text.reader import LEAST_SIDE_PX, TextLine, place
from site_node.text.removal import paint_over, region, share_of_lesion

# Painting over this share of a lesion or less changes it by less than two people differ who draw the same outline
# (a tenth of its area and more); past it, what the networks learn of the lesion would be invented.
MOST_OF_LESION = 0.02
# Once the bold lines are painted, the reader often finds a faint one beside them.
_ROUNDS = 3
_LISTED = 4


class Reader(Protocol):
    """What finds text: site_node.text.reader.TextReader."""

    def lines(self, image: Pixels) -> list[TextLine]:
        """The lines in uint8 [H, W] or [H, W, 3]."""
        ...


@dataclass(frozen=True)
class Treatment:
    """What is done to one case.

    found: the lines as the image came, in its pixels; box: what is cropped to, None for the whole frame; rounds: the
    lines that are painted over, reading by reading; share: of the pixels that are painted, in [0, 1]; digest: of the
    pair that all this was decided on.
    """

    action: TextAction
    found: tuple[TextLine, ...]
    box: Box | None
    rounds: tuple[tuple[TextLine, ...], ...]
    share: float
    digest: str

    def record(self) -> TextRecord:
        """What of this is kept."""
        return TextRecord(len(self.found), self.action, round(self.share, 6))


def decide(pair: Pair, name: str, choice: TextChoice, found: Sequence[TextLine], reader: Reader) -> Treatment:
    """What to do with one case. name: its file's, for people; found: what reader finds in the image as it came.

    With "crop" every image is cropped to its field of view, with text or without, so that a cohort has one look.
    Raises SynthwardError (intake.burned-in-text) where text stands that `choice` cannot or may not deal with.
    """
    found, digest = tuple(found), digest_of(pair)
    box = _box_around(pair) if choice == "crop" else None
    if box is not None:
        left = reader.lines(box.cut(pair.image))  # also where nothing was found: what is small in the frame grows
        if left:
            raise _refused(name, left, (box.bottom - box.top, box.right - box.left), "", cropped=True)
        return Treatment("cropped", found, box, (), 0.0, digest)
    if not found:
        return Treatment("none", (), None, (), 0.0, digest)
    if choice == "keep":
        return Treatment("kept", found, None, (), 0.0, digest)
    if choice == "paint":
        rounds = _painting(pair, name, found, reader)
        share = float(region([line for lines in rounds for line in lines], pair.mask.shape).mean())
        return Treatment("painted", found, None, rounds, share, digest)
    raise _refused(name, found, pair.mask.shape, "")


def treated(pair: Pair, treatment: Treatment) -> Pair:
    """The pair as it goes in. Raises intake.folder-unreadable where it is not the one that was decided on."""
    if digest_of(pair) != treatment.digest:
        raise SynthwardError(
            "intake.folder-unreadable",
            "an image or a mask was changed while the folder was imported",
            why="it was looked at for text before the change, and not after",
            do="import again when nothing else writes to the folder",
        )
    image, mask = pair.image, pair.mask
    if treatment.box is not None:
        image, mask = treatment.box.cut(image), treatment.box.cut(mask)
    for lines in treatment.rounds:
        image = paint_over(image, lines).image
    return Pair(image, mask)


def digest_of(pair: Pair) -> str:
    """SHA-256 over both arrays' shapes and pixels."""
    digest = hashlib.sha256()
    for pixels in (pair.image, pair.mask):
        digest.update(repr(pixels.shape).encode() + pixels.tobytes())
    return digest.hexdigest()


def _painting(pair: Pair, name: str, found: tuple[TextLine, ...], reader: Reader) -> tuple[tuple[TextLine, ...], ...]:
    """The lines to paint over, reading by reading, until nothing is read any more."""
    image = pair.image
    rounds: list[tuple[TextLine, ...]] = []
    while found and len(rounds) < _ROUNDS:
        rounds.append(found)
        if share_of_lesion([line for lines in rounds for line in lines], pair.mask) > MOST_OF_LESION:
            raise _refused(name, found, pair.mask.shape, "it lies on the lesion, which is not painted over")
        image = paint_over(image, found).image
        found = tuple(reader.lines(image))
    if found:
        raise _refused(name, found, pair.mask.shape, f"it was still read after {_ROUNDS} paintings")
    return tuple(rounds)


def _box_around(pair: Pair) -> Box | None:
    """The field of view's box, with all of the lesion in it; None where that is the whole frame or too small to read.

    A lesion outside of the field was seen by whoever drew it: then the field was found wrong, and the box grows.
    """
    box = box_of(field_of_view(pair.image) | (pair.mask > 0))
    height, width = box.bottom - box.top, box.right - box.left
    if (height, width) == pair.mask.shape or min(height, width) < LEAST_SIDE_PX:
        return None
    return box


def _refused(
    name: str, lines: Sequence[TextLine], shape: tuple[int, ...], why_not: str, *, cropped: bool = False
) -> SynthwardError:
    where = "; ".join(place(line, shape) for line in lines[:_LISTED])
    more = f"; and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
    count = "a line" if len(lines) == 1 else f"{len(lines)} lines"
    frame = " inside the field of view" if cropped else ""
    return SynthwardError(
        "intake.burned-in-text",
        f"{name} has {count} of text burned in{frame}, at {where}{more}" + (f"; {why_not}" if why_not else ""),
        why="a name, a date or a counter in the pixels is learned by the generators, and can come out again",
        do="export it without the overlay; or import with --text paint, --text crop, or --text keep --because REASON",
    )
