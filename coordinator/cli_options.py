"""The options that every command of synthward-coordinator has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[Path, typer.Option("--home", envvar="SYNTHWARD_COORDINATOR_HOME", help="Its folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DEFAULT_HOME = Path("synthward-coordinator")
