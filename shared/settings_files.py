"""Settings and policies in TOML: read strictly, written once, refused with the place of each mistake."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.errors import SynthwardError

ModelT = TypeVar("ModelT", bound=BaseModel)


class FileSettings(BaseSettings):
    """Settings from a file, each of which a variable of the environment can override: for containers and trials.

    A subclass names its `env_prefix`; SYNTHWARD_SITE_THREADS=4 overrides `threads` of a site's settings.toml. A policy
    is no such thing: it is the hospital's, and stands in its file alone.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file; no .env file and no folder of secrets."""
        return env_settings, init_settings


def named(path: str) -> Path | None:
    """The file or folder that a setting names; None where it is empty."""
    return Path(path) if path else None


def read_toml(model: type[ModelT], path: Path, *, code: str) -> ModelT:
    """The model in a TOML file. Raises settings.missing, or `code` with every mistake and its place."""
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise SynthwardError("settings.missing", f"{path} is not there", do="run the init command first") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SynthwardError(code, f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SynthwardError(code, f"{path}: {places}", do="correct the lines named, then run it again") from error


def to_toml(values: Mapping[str, object], *, comments: Mapping[str, str] | None = None) -> str:
    """TOML of flat values (text, numbers, booleans, lists of them), each with its comment above it.

    JSON's spelling of these is TOML's too, so no library is needed to write them.
    """
    lines: list[str] = []
    for key, value in values.items():
        if comments and key in comments:
            lines.append(f"# {comments[key]}")
        lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
