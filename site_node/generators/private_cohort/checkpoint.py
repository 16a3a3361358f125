"""What a private training keeps between two steps, and how often it was taken up again.

Promise: a training that is taken up again takes at most one private step a second time, because the file is written
after each; and it is taken up no more often than steps were paid for beyond its own. What the file holds was noised or
public before it was written (the caller's to keep), so that reading it tells nothing that the steps did not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from site_node.generators.checkpoint_file import CheckpointFile


class PrivateCheckpoint:
    """One paid training's state on the disk. fingerprint: of the reservation and of all that the steps depend on."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._file = CheckpointFile(path, fingerprint)
        self._resumed = 0

    def begin(self) -> None:
        """Says that this training is paid for and that none of its steps is done. Before the first step."""
        self._resumed = 0
        self.write(0, {})

    def resume(self, spare: int) -> bool:
        """Whether the training may be taken up once more; then that is counted first, so that no kill forgets it.

        spare: how many steps were paid for beyond the training's own. False too where no state of it lies there: what
        happened to its steps then, nobody can tell.
        """
        found = self._file.read()
        if found is None or int(found[0]["resumed"]) >= spare:
            return False
        description, tensors = found
        self._resumed = int(description["resumed"]) + 1
        self.write(int(description["done"]), tensors)
        return True

    def read(self) -> tuple[int, dict[str, Tensor]]:
        """(steps done, state after them); (0, {}) before the first."""
        found = self._file.read()
        return (int(found[0]["done"]), found[1]) if found else (0, {})

    def write(self, done: int, state: Mapping[str, Tensor]) -> None:
        """Replaces the state, whole or not at all. Raises storage.full: then the step counts as not done."""
        self._file.write({"done": done, "resumed": self._resumed}, state)

    def remove(self) -> None:
        """Once the generator is saved."""
        self._file.remove()
