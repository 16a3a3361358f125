"""deploy/containers and deploy/helm: no image, container or pod has rights that it does not need."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.contract.test_deploy import DEPLOY, QUADLETS, lines, services

SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|PRIVATE_KEY|ACCESS_KEY", re.I)


def image_problems(text: str) -> list[str]:
    """What is wrong with a Containerfile, by the rules that its usual checkers have."""
    found, users, stage = [], {}, ""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stage = rest.split()[-1]
            users[stage] = "root"
            if "@${BASE_DIGEST}" not in rest and rest.split()[0] not in ("build", "base"):
                found.append(f"no digest: {line}")
        elif name == "USER":
            users[stage] = rest.split(":")[0]
        elif name == "ADD" or (name == "RUN" and re.search(r"\b(curl|wget|sudo|apt-get upgrade)\b", rest)):
            found.append(f"fetches: {line}")
        elif name in ("ENV", "ARG") and SECRET.search(rest):
            found.append(f"secret: {line}")
        elif name == "RUN" and "pip install" in rest and ("--no-index" not in rest or "--require-hashes" not in rest):
            found.append(f"unpinned: {line}")
    if ":latest" in text or re.search(r"^ARG BASE=[^:]*$", text, re.M):
        found.append("latest")
    ends = {stage: user for stage, user in users.items() if stage not in ("build", "base")}
    if not ends or not all(user.isdigit() and user != "0" for user in ends.values()):
        found.append(f"runs as root: {ends}")
    return found


CONTAINERFILE = (DEPLOY / "containers" / "Containerfile").read_text(encoding="utf-8")


def test_the_image_is_pinned_fetches_nothing_and_runs_as_nobody_special() -> None:
    assert image_problems(CONTAINERFILE) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("USER 62003:62003", "USER root"),
        ("USER 62003:62003", "USER 0:0"),
        ("USER 62003:62003\n", ""),
        ("COPY build/wheelhouse /wheelhouse", "ADD https://example.org/wheelhouse.tar /wheelhouse"),
        ("WORKDIR /wheelhouse", "RUN curl https://example.org | sh"),
        ("FROM ${BASE}@${BASE_DIGEST} AS base", "FROM ${BASE} AS base"),
        ("ARG BASE=python:3.11-slim-bookworm", "ARG BASE=python:latest"),
        ("ARG BASE=python:3.11-slim-bookworm", "ARG BASE=python"),
        ("MALLOC_ARENA_MAX=2", "DB_PASSWORD=x"),
        ("--no-index ", ""),
        ("--require-hashes ", ""),
    ],
)
def test_a_careless_image_is_noticed(old: str, new: str) -> None:
    assert old in CONTAINERFILE
    assert image_problems(CONTAINERFILE.replace(old, new)) != []


def test_every_container_is_read_only_without_rights_and_within_limits() -> None:
    for name, service in services().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["pids_limit"] > 0, name
        assert not service.get("privileged"), name
        assert int(service["user"].split(":")[0]) > 0, name
        assert not service["image"].endswith(":latest"), name
        assert not SECRET.search(str(service.get("environment", ""))), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    assert QUADLETS
    for path in QUADLETS:
        text = path.read_text(encoding="utf-8")
        assert lines(text, "ReadOnly") == lines(text, "NoNewPrivileges") == ["true"], path.name
        assert lines(text, "DropCapability") == ["all"], path.name
        assert lines(text, "User")[0] != "0", path.name
        assert not lines(text, "Image")[0].endswith(":latest"), path.name
        assert not lines(text, "PodmanArgs"), path.name


# Helm

CHART = DEPLOY / "helm" / "synthward-coordinator"
VALUES = {
    "image": {"repository": "registry.example.org/synthward-coordinator", "digest": f"sha256:{'0' * 64}"},
    "name": "polyps",
    "host": "studies.example.org",
}


@pytest.mark.parametrize("stores", ["", "stores"])
def test_the_chart_renders_and_its_pod_has_no_rights(stores: str) -> None:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk, Helm's own code, is not installed")
    values = VALUES | {"stores": {"existingSecret": stores}}
    assert [m for m in helm.lint(CHART, values)["messages"] if m["severity"] > 1] == []
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values, name="syn", namespace="studies")
    documents = [yaml.safe_load(text) for name, text in rendered.items() if name.endswith(".yaml")]
    kinds = {document["kind"]: document for document in documents}
    assert kinds.keys() == {"StatefulSet", "Service", "NetworkPolicy", "PersistentVolumeClaim"}
    pod = kinds["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
        assert container["image"].endswith(VALUES["image"]["digest"])
        taken = {variable["name"] for variable in container["env"] if "valueFrom" in variable}
        assert ("SYNTHWARD_COORDINATOR_DATABASE_URL" in taken) == bool(stores)
    ports = {port["port"] for port in kinds["Service"]["spec"]["ports"]}
    assert ports == {p["port"] for rule in kinds["NetworkPolicy"]["spec"]["ingress"] for p in rule["ports"]}
    assert 7444 not in ports


def test_the_chart_refuses_to_render_without_a_digest_and_a_name() -> None:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk, Helm's own code, is not installed")
    with helm.Chart.load(CHART) as chart, pytest.raises(Exception, match="digest"):
        chart.render(VALUES | {"image": {"repository": "r", "digest": "latest"}}, name="syn")
