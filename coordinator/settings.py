"""The coordinator's folder and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from coordinator.limits import GB, Limits
from shared.database import sqlite_url
from shared.errors import SynthwardError
from shared.files import private_folder, write_atomic
from shared.identity import SITE_CERTIFICATE_DAYS
from shared.settings_files import FileSettings, read_toml, to_toml
from shared.study import Slug

Port = int


class Settings(FileSettings):
    """What an operator decides. Ports are of this machine; `hosts` are the names by which sites reach it."""

    model_config = SettingsConfigDict(env_prefix="SYNTHWARD_COORDINATOR_")

    name: Slug
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    bind: str = "127.0.0.1"
    enrolment_port: Port = Field(default=7441, ge=1, le=65535)
    releases_port: Port = Field(default=7442, ge=1, le=65535)
    fleet_port: Port = Field(default=7443, ge=1, le=65535)
    flower_port: Port = Field(default=7444, ge=1, le=65535)
    site_certificate_days: int = Field(default=SITE_CERTIFICATE_DAYS, ge=1, le=397)
    public_releases: str = ""
    public_fleet: str = ""
    database_url: str = ""
    objects_url: str = ""
    capture: str = ""
    encoder_weights: str = ""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    site_share_gb: int = Field(default=200, ge=1)
    reserve_gb: int = Field(default=2, ge=0)

    def releases_address(self) -> str:
        """host:port at which sites find the release service."""
        return self.public_releases or f"{self.hosts[0]}:{self.releases_port}"

    def fleet_address(self) -> str:
        """host:port at which sites' Flower nodes find the fleet interface."""
        return self.public_fleet or f"{self.hosts[0]}:{self.fleet_port}"

    def limits(self) -> Limits:
        """What a site may take of the disk."""
        return Limits(share_bytes=self.site_share_gb * GB, reserve_bytes=self.reserve_gb * GB)


COMMENTS = {
    "name": "The federation's name for this coordinator.",
    "hosts": "Names and addresses by which sites reach this machine; they stand in the server certificate.",
    "bind": "The address on which the services listen. 127.0.0.1 is this machine only.",
    "enrolment_port": "gRPC, TLS: new sites come here with their invitation.",
    "releases_port": "gRPC, mutual TLS: releases come in here.",
    "fleet_port": "HTTPS: Flower's fleet interface, the only part of the SuperLink that sites can reach.",
    "flower_port": "HTTPS on loopback only: the SuperLink whole, for the coordinator's own rounds.",
    "site_certificate_days": "How long a site's certificate holds. Sites renew it when a third of that is left.",
    "public_releases": "host:port to tell sites, where a gateway stands in front. Empty: the first host.",
    "public_fleet": "The same for the fleet interface.",
    "database_url": "SQLAlchemy URL. Empty: SQLite in this folder.",
    "objects_url": "fsspec URL of the object store. Empty: objects/ in this folder.",
    "encoder_weights": "A safetensors file of the evaluation's encoder, where a study names its digest. Empty: none.",
    "metrics_port": "Loopback port with figures for Prometheus, under /metrics. 0: none.",
    "site_share_gb": "The most GB (10^9 bytes) that one site's bundles take here, accepted ones too. At least 1: no "
    "site goes without a limit.",
    "reserve_gb": "GB that uploads leave free on this folder's disk, where the database is written. 0: none.",
    "capture": "A folder that gets a copy of every byte that sites send, for an audit. Empty: none.",
}


@dataclass(frozen=True)
class Home:
    """The folder of a coordinator: where each thing lies."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """settings.toml."""
        return self.path / "settings.toml"

    @property
    def keys(self) -> Path:
        """Private keys and certificates."""
        return self.path / "keys"

    @property
    def incoming(self) -> Path:
        """Bundles that are on their way in."""
        return self.path / "incoming"

    @property
    def quarantine(self) -> Path:
        """Bundles that were refused, kept as they came."""
        return self.path / "quarantine"

    @property
    def flower(self) -> Path:
        """The SuperLink's database and FLWR_HOME."""
        return self.path / "flower"

    @property
    def logs(self) -> Path:
        """Logs of the child processes."""
        return self.path / "logs"

    def settings(self) -> Settings:
        """The settings. Raises settings.missing or settings.invalid."""
        return read_toml(Settings, self.settings_file, code="settings.invalid")

    def database_url(self) -> str:
        """The store's URL."""
        return self.settings().database_url or sqlite_url(self.path / "store.db")

    def objects_url(self) -> str:
        """The object store's URL."""
        return self.settings().objects_url or f"file://{self.path.resolve() / 'objects'}"

    def create(self, settings: Settings) -> None:
        """Makes the folder and its settings. Raises settings.exists rather than touch one that is set up."""
        if self.settings_file.exists():
            raise SynthwardError("settings.exists", f"{self.settings_file} exists", do="edit it, or use a new folder")
        private_folder(self.path)
        for folder in (self.keys, self.incoming, self.quarantine, self.flower, self.logs):
            private_folder(folder)
        values = settings.model_dump(mode="json")
        write_atomic(self.settings_file, to_toml(values, comments=COMMENTS).encode())
