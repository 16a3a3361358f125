"""The options that commands of synthward-coordinator share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shared.errors import SynthwardError

HomeOption = Annotated[Path, typer.Option("--home", envvar="SYNTHWARD_COORDINATOR_HOME", help="Its folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DEFAULT_HOME = Path("synthward-coordinator")
OPERATOR = "operator"  # who the journal says it was, of what is done by a command
BecauseOption = Annotated[str, typer.Option("--because", help="The reason, for the journal. Names no patient.")]
_MOST_CHARACTERS = 500


def reason_of(because: str, why: str) -> str:
    """A reason without spaces around it. why: what the journal is to say later. Raises settings.invalid."""
    reason = because.strip()
    if not 0 < len(reason) <= _MOST_CHARACTERS:
        raise SynthwardError(
            "settings.invalid",
            f"the reason has {len(reason)} characters",
            why=f"the journal is to say later {why}",
            do=f"give one of 1 to {_MOST_CHARACTERS} characters with --because",
        )
    return reason


def megabytes(count: int) -> str:
    """Bytes in MB (10^6), for a table."""
    return f"{count / 1e6:.1f}"
