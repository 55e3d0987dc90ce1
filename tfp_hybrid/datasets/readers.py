"""Sources that can only be read from their start on, block by block, as if any block could be had."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

Block = TypeVar("Block")


class Readers:
    """The blocks of sources by their numbers. To read on where one has stopped takes no time.

    What a block is does not depend on what was read before, so several iterations may be under way, or be
    given up. Readers wait, open, at the block after the one that they have read. (`tf.data.Dataset.from_generator`
    would do, but it has the whole process return freed memory to the system at once, and so makes every training
    step slower, by a fifth to a half on a CPU.)

    Args:
      open_source: From the number of a source to an iterator over its blocks.
      most: Readers that may wait; the one that has waited longest is closed first. A block whose reader was closed
        takes the time to read all blocks before it.
    """

    def __init__(self, open_source: Callable[[int], Iterator[Block]], most: int):
        self._open_source, self._most = open_source, most
        self._waiting: list[tuple[int, int, Iterator[Block]]] = []
        self._lock = threading.Lock()

    def block(self, source: int, number: int) -> Block | None:
        """Returns a block of a source, or None after its last one."""
        blocks = self._take(source, number)
        if blocks is None:
            blocks = itertools.islice(self._open_source(source), number, None)
        block = next(blocks, None)
        if block is not None:
            with self._lock:
                self._waiting.append((source, number + 1, blocks))
                del self._waiting[: max(0, len(self._waiting) - self._most)]
        return block

    def close(self):
        """Closes all readers; from now on none waits."""
        with self._lock:
            self._most = 0
            self._waiting.clear()

    def _take(self, source, number):
        with self._lock:
            for i, (*place, blocks) in enumerate(self._waiting):
                if place == [source, number]:
                    del self._waiting[i]
                    return blocks
        return None
