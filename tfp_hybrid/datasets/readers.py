"""`Readers`: access to any block of sources that can only be read sequentially."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

Block = TypeVar("Block")


class Readers:
    """Returns blocks of sources by number; sequential reading is efficient.

    A block does not depend on what was read before it, so several iterations can run at the same time, and any of them
    can be abandoned. After a block is read, its reader stays open at the next block. (`tf.data.Dataset.from_generator`
    would make the whole process return freed memory to the system immediately, which slows down every training step by
    a fifth to a half on a CPU.)

    Args:
      open_source: A function from the number of a source to an iterator over its blocks.
      most: Maximum number of open readers; the one that has been idle longest is closed first. If a block's reader was
        closed, all blocks before it are read again.
    """

    def __init__(self, open_source: Callable[[int], Iterator[Block]], most: int):
        self._open_source, self._most = open_source, most
        self._waiting: list[tuple[int, int, Iterator[Block]]] = []
        self._lock = threading.Lock()

    def block(self, source: int, number: int) -> Block | None:
        """Returns a block of a source, or None after the last block."""
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
        """Closes all readers; readers that are opened later do not stay open."""
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
