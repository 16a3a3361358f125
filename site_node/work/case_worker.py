"""The process of one training worker: reads cases from its parent's pipe, trains them, answers; ends with its parent.

Started by site_node.work.pool. It opens no network connection and reads nothing but its pipe and its cases' files.
"""

from __future__ import annotations

import os
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

import torch

from shared.logs import configure
from site_node.work.case_training import Ending, Task, Tell, Train
from site_node.work.no_network import close_network


def answer(train: Train, task: Task, tell: Tell) -> Ending:
    """The training's ending; an error that nobody expected is an ending too, for the process that waits for one."""
    try:
        return train(task, tell)
    except (BrokenPipeError, ConnectionResetError):
        raise  # nobody waits any more
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        return Ending("internal", f"{type(error).__name__} in a training worker:\n{traceback.format_exc()}")


def serve(parent: Connection[Any, Any]) -> None:
    """Trains what comes through the pipe, until it ends."""
    while True:
        try:
            train, task = parent.recv()
            parent.send(answer(train, task, parent.send))
        except (EOFError, OSError):
            return  # the parent is gone, or has no more for us


if __name__ == "__main__":
    configure()
    close_network()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    serve(Connection(int(sys.argv[1])))
