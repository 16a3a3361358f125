"""A site's folder and settings.

The folder has two halves that meet only in exchange/: the link (network, keys/link) and the trainer (private/,
keys/seal). Deployment gives them different users; the code keeps to the same line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.errors import SynthwardError
from shared.files import private_folder, write_atomic
from shared.settings_files import FileSettings, read_toml, to_toml
from shared.study import Document


class Settings(FileSettings):
    """What the hospital's administrator decides about this machine."""

    model_config = SettingsConfigDict(env_prefix="SYNTHWARD_SITE_")

    data: str = ""
    node_port: int = Field(default=7451, ge=1, le=65535)
    threads: int = Field(default=0, ge=0, le=1024)
    workers: int = Field(default=0, ge=0, le=1024)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$")
    ray_address: str = Field(default="", pattern=r"^(auto|[^:/]+:\d{1,5})?$")
    releases_address: str = ""
    fleet_address: str = ""
    proxy: str = Field(default="", pattern=r"^(none|http://([^@/\s]+@)?[^@/\s]+:\d{1,5})?$")
    style_weights: str = ""
    style_images: str = ""
    screening_weights: str = ""
    encoder_weights: str = ""
    review_port: int = Field(default=7452, ge=1, le=65535)
    review_bind: str = "127.0.0.1"
    review_behind_proxy: bool = False
    review_host: str = ""
    review_proxy: str = "127.0.0.1"
    review_user_header: str = Field(default="", pattern=r"^[A-Za-z0-9-]*$")
    metrics_port: int = Field(default=0, ge=0, le=65535)


class Membership(Document):
    """What enrolment told the site: written once, by `init`."""

    site: str
    releases_address: str
    fleet_address: str
    coordinator_key: str = Field(pattern=r"^[0-9a-f]{64}$")


SETTINGS_COMMENTS = {
    "data": "The folder with images/ and masks/ that import reads when it is given none.",
    "node_port": "Loopback port between the site's Flower node and its executor.",
    "threads": "Processor threads for training. 0: as many as there are cores.",
    "workers": "Cases that train at once, as far as memory reaches. 0: one for each thread; one on a graphics card.",
    "device": "Where cases train: auto (a graphics card where there is one), cpu, cuda, cuda:1.",
    "ray_address": "The hospital's own Ray cluster, on which cases then train: auto, or host:port. Empty: none.",
    "releases_address": "host:port of the release service where the hospital has a gateway. Empty: as enrolment told.",
    "fleet_address": "The same for the coordinator's Flower fleet interface.",
    "proxy": "http://[user:password@]host:port of an HTTP proxy. Empty: as https_proxy says. none: straight out.",
    "style_weights": "A safetensors file of VGG-19 or SqueezeNet 1.1, for studies with style gatys. Empty: none.",
    "screening_weights": "The same kind of file, for the screening's embedding and for distances. Empty: without.",
    "encoder_weights": "A safetensors file of the evaluation's encoder, where a study names its digest. Empty: none.",
    "style_images": "A folder of public images, for studies whose style comes from such. Empty: none.",
    "review_port": "Port of the stewards' review page.",
    "review_bind": "Address on which the review page listens. Other than loopback: only behind a proxy.",
    "review_behind_proxy": "Whether a reverse proxy of the hospital's, with TLS, stands before the review page.",
    "review_host": "Behind a proxy: the host in the address that stewards open, with its port if it has one.",
    "review_proxy": "Behind a proxy: its address; requests from any other are refused. Empty: any.",
    "review_user_header": "Behind a proxy: the header that names the steward it has signed in. Empty: passwords.",
    "metrics_port": "Loopback port on which the link has figures for Prometheus, under /metrics. 0: none.",
}


@dataclass(frozen=True)
class Home:
    """The folder of a site: where each thing lies."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """settings.toml."""
        return self.path / "settings.toml"

    @property
    def policy_file(self) -> Path:
        """policy.toml: the hospital's, never the study's."""
        return self.path / "policy.toml"

    @property
    def membership_file(self) -> Path:
        """What enrolment told us."""
        return self.path / "membership.toml"

    @property
    def link_keys(self) -> Path:
        """The link's TLS and Flower keys, the site's certificate, the pinned authority."""
        return self.path / "keys" / "link"

    @property
    def seal_keys(self) -> Path:
        """The key that signs bundles; the link cannot read it."""
        return self.path / "keys" / "seal"

    @property
    def private(self) -> Path:
        """Cases, generators, drafts, the ledger: patient data, all of it."""
        return self.path / "private"

    @property
    def exchange(self) -> Path:
        """What both halves see: the queue, weights that came in, sealed bundles on their way out."""
        return self.path / "exchange"

    @property
    def inbox(self) -> Path:
        """Weights that came in."""
        return self.exchange / "inbox"

    @property
    def outbox(self) -> Path:
        """Sealed bundles."""
        return self.exchange / "outbox"

    @property
    def flower(self) -> Path:
        """FLWR_HOME of the site's node."""
        return self.path / "flower"

    @property
    def logs(self) -> Path:
        """Logs of the site's processes."""
        return self.path / "logs"

    def settings(self) -> Settings:
        """The settings. Raises settings.missing or settings.invalid."""
        return read_toml(Settings, self.settings_file, code="settings.invalid")

    def membership(self) -> Membership:
        """The membership. Raises settings.missing before enrolment."""
        return read_toml(Membership, self.membership_file, code="settings.invalid")

    def ready(self) -> Home:
        """Itself, when the folder is a site's that has enrolled. Raises settings.missing."""
        self.settings()
        self.membership()
        return self

    def releases_address(self) -> str:
        """host:port of the release service."""
        return self.settings().releases_address or self.membership().releases_address

    def fleet_address(self) -> str:
        """host:port of Flower's fleet interface."""
        return self.settings().fleet_address or self.membership().fleet_address

    def create(self, settings: Settings) -> None:
        """Makes the folders and settings. Raises settings.exists rather than touch a site that is set up."""
        if self.settings_file.exists():
            raise SynthwardError("settings.exists", f"{self.settings_file} exists", do="edit it, or use a new folder")
        private_folder(self.path)
        for folder in (
            self.link_keys, self.seal_keys, self.private, self.inbox, self.outbox, self.flower, self.logs,
        ):  # fmt: skip
            private_folder(folder)
        write_atomic(self.settings_file, to_toml(settings.model_dump(), comments=SETTINGS_COMMENTS).encode())

    def join(self, membership: Membership) -> None:
        """Records what enrolment told us."""
        write_atomic(self.membership_file, to_toml(membership.model_dump()).encode())
