"""A Flower run as a context: open it, get a Grid to the sites, close it.

The ServerApp runs in the coordinator's own process and is installed code; the application archive that Flower insists
on holds a name and nothing to execute. Only loopback is used. Internal interfaces of flwr 1.41: pinned, and tested.
"""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.app import Context
from flwr.cli.build import build_fab_from_files
from flwr.common.constant import SubStatus
from flwr.common.serde import context_from_proto, run_from_proto
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest, UnregisterNodeRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PullTaskInputRequest, PushTaskOutputRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from shared.errors import SynthwardError

_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_one_round = threading.Lock()
_EMPTY_APP = {
    "pyproject.toml": b"""[project]
name = "synthward-round"
version = "1.0.0"
description = "Names a round. Holds no code: every site runs the application that its hospital installed."
dependencies = []

[tool.flwr.app]
publisher = "synthward"

[tool.flwr.app.components]
serverapp = "installed:app"
clientapp = "installed:app"
"""
}


@dataclass(frozen=True)
class SuperLink:
    """How to reach the SuperLink's whole interface, on loopback."""

    port: int
    authority: bytes
    secret: bytes
    lock: Path

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def control(self) -> ControlHttpClient:
        """A client of the control interface."""
        return ControlHttpClient.from_server_address(self.address, False, self.authority, ())

    def round(self, token: str) -> RuntimeHttpClient:
        """A client of the runtime interface for the round whose task the token is."""
        interceptors = (
            RuntimeVersionHttpInterceptor(component_name="flwr-serverapp"),
            RuntimeTokenHttpInterceptor(token),
        )
        return RuntimeHttpClient.from_server_address(self.address, False, self.authority, interceptors)


def register_node(superlink: SuperLink, site: str, flower_key: bytes) -> int:
    """Registers a site's Flower key; the node's id. Registering the same key again gives the same id."""
    control = superlink.control()
    try:
        for node in control.ListNodes(ListNodesRequest()).nodes_info:
            if node.public_key == flower_key and node.status != "unregistered":
                return int(node.node_id)
        return int(control.RegisterNode(RegisterNodeRequest(public_key=flower_key, name=site)).node_id)
    except httpx.HTTPError as error:
        raise _unreachable(error) from error
    finally:
        control.close()


def unregister_nodes(superlink: SuperLink, flower_keys: Collection[bytes]) -> int:
    """Takes the nodes with these keys off the SuperLink, which refuses their next message; how many there were.

    Safe to repeat. A key that was unregistered is never registered again: its site comes back with another one.
    Raises unavailable.service.
    """
    with contextlib.closing(superlink.control()) as control:
        try:
            nodes = control.ListNodes(ListNodesRequest()).nodes_info
            gone = [n.node_id for n in nodes if n.public_key in flower_keys and n.status != "unregistered"]
            for node_id in gone:
                control.UnregisterNode(UnregisterNodeRequest(node_id=node_id))
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
    return len(gone)


def online_nodes(superlink: SuperLink) -> set[int]:
    """Ids of the nodes that are connected now. Raises unavailable.service."""
    with contextlib.closing(superlink.control()) as control:
        try:
            nodes = control.ListNodes(ListNodesRequest()).nodes_info
        except httpx.HTTPError as error:
            raise _unreachable(error) from error
    return {int(node.node_id) for node in nodes if node.status == "online"}


@contextmanager
def flower_run(
    superlink: SuperLink, *, application: Mapping[str, bytes] = _EMPTY_APP
) -> Iterator[tuple[HttpGrid, Context]]:
    """Yields (grid, context) of a new run, and ends the run as completed or failed. Raises unavailable.service.

    application: the files that Flower hands to every node. No site of ours opens them; a test hands out hostile ones.
    """
    with _one_round:
        yield from _run(superlink, application)


def _run(superlink: SuperLink, application: Mapping[str, bytes]) -> Iterator[tuple[HttpGrid, Context]]:
    try:
        token = _start(superlink, application)
    except httpx.HTTPError as error:
        raise _unreachable(error) from error
    grid = HttpGrid(superlink.address, insecure=False, root_certificates=superlink.authority, token=token)
    runtime = superlink.round(token)
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(runtime))
    status, details = SubStatus.FAILED, "the round was left early"
    try:
        heartbeat.start()
        task = runtime.PullTaskInput(PullTaskInputRequest())
        grid.set_run(run_from_proto(task.run))
        # flwr keeps a process's identity in a class: one round at a time in a process, as _one_round sees to.
        TaskIdentity.task_id = task.task_id
        TaskIdentity.run_id = task.run.run_id
        TaskIdentity.node_id = task.context.node_id
        yield grid, context_from_proto(task.context)
        status, details = SubStatus.COMPLETED, ""
    finally:
        # In this order: with the task its token ends, and a heartbeat would be refused.
        if heartbeat.is_running:
            heartbeat.stop()
        with contextlib.suppress(httpx.HTTPError):  # the SuperLink ends a run whose heartbeat stops
            runtime.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=details))
        runtime.close()
        grid.close()


def _start(superlink: SuperLink, application: Mapping[str, bytes]) -> str:
    """Starts a run and takes its server task; the task's token.

    Two rounds that start at once could take each other's task, so both steps stand under one lock. A task that an
    earlier round left behind when it was killed is taken and ended.
    """
    archive, _ = build_fab_from_files(application)
    control = superlink.control()
    executor = RuntimeHttpClient.from_server_address(
        superlink.address,
        False,
        superlink.authority,
        (
            RuntimeVersionHttpInterceptor(component_name="SuperExec"),
            SuperExecAuthHttpInterceptor(master_secret=superlink.secret, protected_methods={_ACQUIRE}),
        ),
    )
    try:
        with superlink.lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            run_id = control.StartRun(StartRunRequest(fab=Fab(content=archive))).run_id
            while True:
                task = executor.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-serverapp"]))
                if not task.token:
                    raise SynthwardError("unavailable.service", "the SuperLink gave a round no task of its own")
                if task.task.run_id == run_id:
                    return task.token
                _end_abandoned(superlink, task.token)
    finally:
        control.close()
        executor.close()


def _end_abandoned(superlink: SuperLink, token: str) -> None:
    with contextlib.closing(superlink.round(token)) as runtime:
        runtime.PushTaskOutput(PushTaskOutputRequest(sub_status=SubStatus.FAILED, details="left behind"))


def _unreachable(error: Exception) -> SynthwardError:
    return SynthwardError(
        "unavailable.service",
        f"the SuperLink does not answer ({type(error).__name__})",
        do="start the coordinator: synthward-coordinator run",
    )
