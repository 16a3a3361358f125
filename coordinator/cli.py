"""synthward-coordinator: what the operator of a study types."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from coordinator.backup_cli import backup as backup_command
from coordinator.backup_cli import restore as restore_command
from coordinator.cli_options import DEFAULT_HOME, OPERATOR, HomeOption, JsonOption
from coordinator.portable_cli import import_bundles
from coordinator.quarantine_cli import quarantine_app
from coordinator.report_cli import report as report_command
from coordinator.settings import Home, Settings
from coordinator.site_cli import site_app
from shared.console import EXIT_CODES, emit, errors, progress, say, table
from shared.errors import SynthwardError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The coordinator: invites sites, publishes studies, takes releases in, builds datasets, evaluates them.",
    epilog=f"Exit codes: {EXIT_CODES}",
)
study_app = typer.Typer(no_args_is_help=True, help="Studies: publish one, see who takes part.")
dataset_app = typer.Typer(no_args_is_help=True, help="Datasets: build a version, export it, verify a copy.")
app.add_typer(study_app, name="study")
app.add_typer(dataset_app, name="dataset")
app.add_typer(site_app, name="site")
app.add_typer(quarantine_app, name="quarantine")
app.command("report")(report_command)
app.command("backup")(backup_command)
app.command("restore")(restore_command)
app.command("import")(import_bundles)


@app.command()
def init(
    name: Annotated[str, typer.Option(help="The federation's name for this coordinator.")],
    host: Annotated[list[str] | None, typer.Option(help="Name or address by which sites reach it.")] = None,
    bind: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    enrolment_port: int = 7441,
    releases_port: int = 7442,
    fleet_port: int = 7443,
    flower_port: int = 7444,
    public_releases: str = "",
    public_fleet: str = "",
    capture: Annotated[str, typer.Option(help="Folder for a copy of what sites send.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Makes the certificate authority, the keys and settings.toml."""
    with errors(as_json=as_json):
        from pydantic import ValidationError

        from coordinator.running import initialise

        try:
            settings = Settings(
                name=name,
                hosts=tuple(host or ("127.0.0.1", "localhost")),
                bind=bind,
                enrolment_port=enrolment_port,
                releases_port=releases_port,
                fleet_port=fleet_port,
                flower_port=flower_port,
                public_releases=public_releases,
                public_fleet=public_fleet,
                capture=capture,
            )
        except ValidationError as error:
            raise SynthwardError("settings.invalid", str(error)) from error
        initialise(Home(home), settings)
        emit({"home": str(home)}, f"{home} is set up. Start it: synthward-coordinator run", as_json=as_json)


@app.command()
def invite(
    site: str,
    hours: Annotated[float, typer.Option(help="How long the invitation holds.")] = 72.0,
    address: Annotated[str, typer.Option(help="host:port of enrolment as the site reaches it.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """A single-use invitation for a site. Hand it over by a way that you trust; it is a secret until it is used."""
    with errors(as_json=as_json):
        from pydantic import TypeAdapter, ValidationError

        from coordinator.enrolment import invite as make_invitation
        from coordinator.store.store import Store
        from shared.identity import CertificateAuthority
        from shared.study import Slug

        try:
            TypeAdapter(Slug).validate_python(site)
        except ValidationError as error:
            raise SynthwardError(
                "settings.invalid",
                f"{site!r} is no name for a site",
                do="use up to 40 lower-case letters, digits and hyphens",
            ) from error
        here = Home(home)
        settings = here.settings()
        invitation = make_invitation(
            Store(here.database_url()),
            CertificateAuthority.load(here.keys / "ca.key", here.keys / "ca.crt"),
            site=site,
            address=address or f"{settings.hosts[0]}:{settings.enrolment_port}",
            valid_for=timedelta(hours=hours),
            actor=OPERATOR,
        )
        emit({"site": site, "invitation": invitation.text()}, invitation.text(), as_json=as_json)


@app.command()
def run(home: HomeOption = DEFAULT_HOME) -> None:
    """Runs the coordinator until Ctrl-C."""
    with errors(as_json=False):
        from coordinator.running import run_coordinator

        run_coordinator(Home(home))


@study_app.command("publish")
def publish(file: Path, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Signs a study (TOML) and publishes it; sites get it as soon as they are connected."""
    with errors(as_json=as_json):
        from pydantic import ValidationError

        from coordinator.store.store import PublishedStudy, Store
        from shared.documents import canonical, sign
        from shared.identity import load_signing_key
        from shared.pairs import sha256_hex
        from shared.study import Study

        here = Home(home)
        try:
            study = Study.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
        except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
            raise SynthwardError("document.malformed", f"{file}: {error}", do="correct the study's file") from error
        payload = canonical(study)
        signature = sign(load_signing_key(here.keys / "signing.key"), "study", payload)
        published = PublishedStudy(sha256_hex(payload), payload, signature)
        Store(here.database_url()).publish(published, actor=OPERATOR)
        emit(
            {"study": study.study_id, "sha256": published.sha256},
            f"{study.study_id} is published ({published.sha256}).",
            as_json=as_json,
        )


@study_app.command("status")
def status(
    study: str,
    wait_bundles: Annotated[int, typer.Option(help="Wait until this many releases were accepted.")] = 0,
    timeout_s: float = 600.0,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Who has taken the study, who refused it and why, what was accepted, what was taken back."""
    with errors(as_json=as_json):
        from coordinator.reading import study_status, wait_for_bundles

        here = Home(home)
        if wait_bundles:
            wait_for_bundles(here, study, wait_bundles, timeout_s=timeout_s)
        found = study_status(here, study)
        if as_json:
            emit(found, "", as_json=True)
        else:
            columns = ["site", "answer", "code", "accepted releases", "pairs", "taken back"]
            rows = [
                [s["site"], s["answer"], s["code"], str(s["bundles"]), str(s["pairs"]), str(s["revoked"])]
                for s in found["sites"]
            ]
            when = f"{'closed' if found['closed'] else 'closes'} {found['closes']}"
            table(f"{found['study']} ({found['sha256'][:12]}), {when}", columns, rows)


@dataset_app.command("build")
def build(study: str, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Builds a version from all accepted releases. The same releases give the version that is there already."""
    with errors(as_json=as_json):
        from coordinator.datasets.build import build as build_dataset
        from coordinator.store.store import Store

        store = Store(Home(home).database_url())
        version, sha256, dataset = build_dataset(store, store.study(study).sha256, actor=OPERATOR)
        emit(
            {"version": version, "sha256": sha256, "pairs": len(dataset.pairs)},
            f"Version {version}: {len(dataset.pairs)} pairs ({sha256}).",
            as_json=as_json,
        )


@dataset_app.command("export")
def export(
    study: str,
    target: Path,
    version: Annotated[int, typer.Option(help="Which version; 0: the newest.")] = 0,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Writes a version to a folder: images/, masks/, index.csv, and what is claimed of it."""
    with errors(as_json=as_json):
        from coordinator.datasets.build import load
        from coordinator.datasets.export import export as export_dataset
        from coordinator.store.objects import ObjectStore
        from coordinator.store.store import Store

        here = Home(home)
        store = Store(here.database_url())
        published = store.study(study)
        version, dataset = load(store, published.sha256, version)
        export_dataset(ObjectStore(here.objects_url()), dataset, published.study, version, target)
        emit({"target": str(target), "pairs": len(dataset.pairs)}, f"{target}: {len(dataset.pairs)} pairs.",
             as_json=as_json)  # fmt: skip


@dataset_app.command("verify")
def verify_dataset(
    folder: Path,
    revocations: Annotated[Path | None, typer.Option(help="The coordinator's signed list of revoked releases.")] = None,
    coordinator_key: Annotated[str, typer.Option(help="Its public key, 64 hexadecimal digits.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Checks an exported version, for whoever received it: every digest, and whether a release was taken back."""
    with errors(as_json=as_json):
        from coordinator.datasets.build import check_none_revoked
        from coordinator.datasets.verify import verify_export
        from shared.identity import public_key
        from shared.revocation import read_list

        if (revocations is None) != (not coordinator_key):
            raise SynthwardError(
                "settings.invalid",
                "--revocations and --coordinator-key go together",
                why="a list without the key that signed it could be anybody's",
                do="ask the coordinator's operator for both, by different ways",
            )
        found = verify_export(folder)
        as_of = "not asked"
        if revocations is not None:
            try:
                key, text = public_key(bytes.fromhex(coordinator_key)), revocations.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise SynthwardError(
                    "settings.invalid", f"the list or the key cannot be read ({type(error).__name__})"
                ) from error
            told = read_list(key, text)
            check_none_revoked(found.dataset.bundles, told.revoked, str(folder))
            as_of = told.made_at.isoformat()
        emit(
            {"sha256": found.sha256, "pairs": len(found.dataset.pairs), "none_revoked_as_of": as_of},
            f"{folder}: {len(found.dataset.pairs)} pairs, unchanged.\nSHA-256 of dataset.json: {found.sha256}\n"
            f"No release taken back, as of: {as_of}",
            as_json=as_json,
        )


@app.command()
def revocations(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """The signed list of releases that sites took back, for receivers: send it to a file and hand that out."""
    with errors(as_json=as_json):
        from coordinator.revoking import list_for_receivers
        from coordinator.store.store import Store
        from shared.identity import load_signing_key, public_bytes
        from shared.revocation import write_list

        here = Home(home)
        key, told = load_signing_key(here.keys / "signing.key"), list_for_receivers(Store(here.database_url()))
        text = write_list(key, told)
        data = {
            "revoked": [line.model_dump(mode="json") for line in told.revoked],
            "coordinator_key": public_bytes(key.public_key()).hex(),
            "list": text,
        }
        emit(data, text.rstrip("\n"), as_json=as_json)


@app.command()
def evaluate(
    study: str,
    version: Annotated[int, typer.Option(help="Which dataset version; 0: the newest.")] = 0,
    timeout_s: Annotated[float, typer.Option(help="How long to wait for sites after the last network.")] = 1800.0,
    threads: Annotated[int, typer.Option(help="Processor threads; 0: all.")] = 0,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Trains UNet++ on what was shared, and has every site score it on its real hold-out."""
    with errors(as_json=as_json):
        from coordinator.running import quiet_flower

        quiet_flower(Home(home))
        import torch

        from coordinator.evaluation.run import evaluate as run_evaluation
        from coordinator.evaluation.run import mean_iou
        from coordinator.evaluation.words import trained_on_words

        if threads:
            torch.set_num_threads(threads)
        with progress(as_json=as_json) as report:
            measured, found = run_evaluation(Home(home), study, version, report, timeout_s=timeout_s)
        if as_json:
            emit({"answers": [m.plain() for m in measured], "findings": [f.plain() for f in found]}, "", as_json=True)
        else:
            sites = sorted({m.site for m in measured})
            means = mean_iou(measured)
            body = [
                [trained_on_words(*key), *(f"{cells[s]:.3f}" if s in cells else "-" for s in sites)]
                for key, cells in means.items()
            ]
            table("IoU on real hold-out, mean over seeds", ["trained on", *sites], body)
            say(f"For intervals, gains and distances: synthward-coordinator report {study}")


@app.command()
def verify(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Checks the journal's chain, what sites noted of it and we of theirs, and every object of every dataset."""
    with errors(as_json=as_json):
        from coordinator.reading import verify_coordinator

        found = verify_coordinator(Home(home))
        emit(found, "\n".join(f"{name}: {value}" for name, value in found.items()), as_json=as_json)


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
