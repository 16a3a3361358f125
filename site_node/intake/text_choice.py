"""What may be done about text in images, as the administrator names it and as the record keeps it."""

from __future__ import annotations

from typing import Literal

# For a whole import: refuse images with text, paint over it, crop all images to their field of view, keep it.
TextChoice = Literal["refuse", "paint", "crop", "keep"]
# For one case.
TextAction = Literal["none", "painted", "cropped", "kept"]
ACTIONS: tuple[TextAction, ...] = ("none", "painted", "cropped", "kept")
