"""The site's own executor for Flower tasks: it runs the client that the hospital installed, and nothing else.

`flower-supernode --isolation process` holds the connection and offers tasks on loopback. This executor asks for
`flwr-clientapp` tasks only, takes the message, and lets the installed ClientApp answer it. The archive that comes with
a task is never written, unpacked or read. Internal interfaces of flwr 1.41: pinned, and tested.
"""

from __future__ import annotations

import threading

import httpx
import structlog
from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from shared.errors import ExitCode, SynthwardError
from site_node.jobs import Queue

TASK_TYPES = ("flwr-clientapp",)
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_POLL_S = 0.5
_log = structlog.get_logger("site.executor")


class Executor:
    """Takes tasks from the site's node one at a time. secret: shared with the node, so nobody else can take them."""

    def __init__(self, app: ClientApp, queue: Queue, *, port: int, secret: bytes) -> None:
        self._app = app
        self._queue = queue
        self._address = f"127.0.0.1:{port}"
        self._secret = secret

    def run(self, stop: threading.Event) -> None:
        """Until stop is set. A node that is not up yet, or is being restarted, is waited for."""
        with self._client(SuperExecAuthHttpInterceptor(master_secret=self._secret, protected_methods={_ACQUIRE})) as c:
            reachable = True
            while not stop.is_set():
                try:
                    task = c.value.AcquireTask(AcquireTaskRequest(supported_task_types=list(TASK_TYPES)))
                    reachable = True
                    if task.token and task.task.type in TASK_TYPES:
                        self._execute(task.token)
                        continue
                except httpx.HTTPError as error:
                    if reachable:
                        _log.warning("node-unreachable", error=type(error).__name__)
                    reachable = False
                except SynthwardError as error:
                    if error.exit_code is not ExitCode.STORAGE:
                        raise
                    # No room, or somebody holds the queue: the coordinator asks again.
                    _log.warning("put-off", code=error.code)
                stop.wait(_POLL_S)

    def _execute(self, token: str) -> None:
        with self._client(RuntimeTokenHttpInterceptor(token)) as c:
            heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(c.value))
            heartbeat.start()
            context, status, details = None, SubStatus.FAILED, "the site's client failed"
            try:
                message, context, _run, _archive = pull_task_input(c.value)
                reply = self.answer(message, context)
                self._queue.count_egress(f"flower:{message.metadata.message_type}", _size(reply))
                push_message(c.value, reply, context)
                status, details = SubStatus.COMPLETED, ""
            finally:
                push_task_output(c.value, context, status, details)
                if heartbeat.is_running:
                    heartbeat.stop()

    def answer(self, message: Message, context: object) -> Message:
        """What the installed client says to a message; an error without a text where it has nothing to say."""
        try:
            return self._app(message=message, context=context)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001
            # What went wrong stays in our log: its text may name a file. The other side learns that it did.
            _log.exception("client-failed", error=type(error).__name__)
            self._queue.record("coordinator", "message-refused", "", "internal")
            return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason="internal"), reply_to=message)

    def _client(self, interceptor: SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor) -> _Closing:
        return _Closing(
            RuntimeHttpClient.from_server_address(
                # Loopback between two processes of one site, under a shared secret.
                self._address,
                True,
                None,
                (RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), interceptor),
            )
        )


class _Closing:
    """A client that is closed at the end of a with block."""

    def __init__(self, value: RuntimeHttpClient) -> None:
        self.value = value

    def __enter__(self) -> _Closing:
        return self

    def __exit__(self, *_: object) -> None:
        self.value.close()


def _size(message: Message) -> int:
    """Bytes of a reply's content as Flower will send it."""
    return len(message.content.deflate()) if message.has_content() else 0
