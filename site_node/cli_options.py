"""The options that every command of synthward-site has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[Path, typer.Option("--home", envvar="SYNTHWARD_SITE_HOME", help="The site's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DEFAULT_HOME = Path("synthward-site")
