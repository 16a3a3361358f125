"""The site's own executor for Flower tasks: it runs the client that the hospital installed, and nothing else.

`flower-supernode --isolation process` holds the connection and offers tasks on loopback. This executor asks for
`flwr-clientapp` tasks only, takes the message, and lets the installed ClientApp answer it. The archive that comes with
a task is never written, unpacked or read. Internal interfaces of flwr 1.41: pinned, and tested.
"""

from __future__ import annotations

import threading
from functools import partial

import httpx
import stamina
import structlog
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
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
_PUSHES = 3
_log = structlog.get_logger("site.executor")


class Executor:
    """Takes tasks from the site's node one at a time. secret: shared with the node, so nobody else can take them."""

    def __init__(self, app: ClientApp, queue: Queue, *, port: int, secret: bytes) -> None:
        self._app = app
        self._queue = queue
        self._address = f"127.0.0.1:{port}"
        self._secret = secret

    def run(self, stop: threading.Event) -> None:
        """Until stop is set. A node that is not up yet, or is being restarted, is waited for.

        Raises unavailable.service when the node did not take a reply: it is to be restarted, and we with it.
        """
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
                stop.wait(_POLL_S)

    def _execute(self, token: str) -> None:
        with self._client(RuntimeTokenHttpInterceptor(token)) as c:
            heartbeat = HeartbeatSender(partial(_beat, c.value))
            heartbeat.start()
            try:
                message, context, _run, _archive = pull_task_input(c.value)
                _push(c.value, self._reply(message, context), context)
            except (SynthwardError, httpx.HTTPError):
                raise
            except Exception as error:  # noqa: BLE001
                # What came is no message. Nothing is told: a task that has "failed" leaves the node waiting for a reply
                # for ever, and one whose heartbeats end is answered by the node itself.
                _log.warning("task-lost", error=type(error).__name__)
                return
            finally:
                # First: with the task its token ends, and a heartbeat would be refused.
                if heartbeat.is_running:
                    heartbeat.stop()
            push_task_output(c.value, context, SubStatus.COMPLETED, "")

    def _reply(self, message: Message, context: object) -> Message:
        """The client's answer, or that there is none now: the coordinator asks again."""
        try:
            reply = self.answer(message, context)
            self._queue.count_egress(f"flower:{message.metadata.message_type}", _size(reply))
        except SynthwardError as error:
            if error.exit_code is not ExitCode.STORAGE:
                raise
            # No room, or somebody holds the queue.
            _log.warning("put-off", code=error.code)
            return Message(Error(code=ErrorCode.CLIENT_APP_CRASHED, reason=error.code), reply_to=message)
        return reply

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


def _push(client: RuntimeHttpClient, reply: Message, context: Context) -> None:
    """Gives the node a reply. Raises unavailable.service."""
    try:
        # A node that is still clearing an earlier reply away may refuse an object that both have.
        for attempt in stamina.retry_context(on=ObjectPushError, attempts=_PUSHES, wait_initial=0.5):
            with attempt:
                push_message(client, reply, context)
    except Exception as error:
        _log.error("reply-not-taken", error=type(error).__name__)
        raise SynthwardError(
            "unavailable.service",
            "the site's node did not take a reply",
            why="it may have half of it, and waits for the rest for ever",
            do="nothing: node and link are started afresh, and the coordinator asks again",
        ) from error


def _beat(client: RuntimeHttpClient) -> bool:
    """One heartbeat of a task; False to try it again soon.

    Flower's own interrupts the process when a task is no longer wanted; a site's link has other work.
    """
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except httpx.TransportError:
        return False
    except httpx.HTTPStatusError as error:
        return not error.response.is_server_error
    return True


def _size(message: Message) -> int:
    """Bytes of a reply's content as Flower will send it."""
    return len(message.content.deflate()) if message.has_content() else 0
