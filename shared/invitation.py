"""The invitation that a coordinator's operator hands to a hospital, as one line of text."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import Field

from shared.documents import canonical, parse
from shared.errors import SynthwardError
from shared.study import Document, Slug

_PREFIX = "synthward-invitation-1."


class Invitation(Document):
    """site: the name it enrols under; address: host:port; authority: the CA to pin, PEM; secret: 32 bytes in hex."""

    site: Slug
    address: str = Field(pattern=r"^[^\s/]{1,255}:[0-9]{1,5}$")
    authority: str = Field(max_length=4096)
    secret: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", repr=False)]

    def text(self) -> str:
        """One line without spaces, to be pasted or put into a file."""
        return _PREFIX + base64.urlsafe_b64encode(canonical(self)).decode()


def read_invitation(text: str) -> Invitation:
    """The invitation in a text. Raises trust.invitation-malformed."""
    line = "".join(text.split())  # mail programs break long lines
    try:
        if not line.startswith(_PREFIX):
            raise ValueError("it does not start as an invitation does")
        return parse(Invitation, base64.b64decode(line.removeprefix(_PREFIX), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, SynthwardError) as error:
        raise SynthwardError(
            "trust.invitation-malformed",
            "the invitation cannot be read",
            why="a part of it may be missing, or it was changed on its way",
            do="copy the whole line again, or ask the coordinator's operator for a new one",
        ) from error
