import numpy as np

from tfp_hybrid.datasets.readers import Readers


class Sources:
    """Sources whose blocks are `(source, number)`; counts how many blocks each has read from its start."""

    def __init__(self, blocks):
        self.blocks, self.opened, self.read, self.closed = blocks, 0, 0, 0

    def open(self, source):
        self.opened += 1
        try:
            for number in range(self.blocks[source]):
                self.read += 1
                yield source, number
        finally:
            self.closed += 1


def test_any_block_can_be_had_in_any_order():
    readers = Readers(Sources([3, 0, 5]).open, most=2)
    wanted = [(source, number) for source, blocks in enumerate((3, 0, 5)) for number in range(blocks + 1)] * 3
    np.random.default_rng(0).shuffle(wanted)
    for source, number in wanted:
        assert readers.block(source, number) == ((source, number) if number < (3, 0, 5)[source] else None)


def test_sources_that_are_read_in_turns_are_opened_once_and_closed():
    sources = Sources([10, 10, 4])
    readers = Readers(sources.open, most=3)
    for number in range(11):
        for source in range(3):
            if number <= sources.blocks[source]:
                readers.block(source, number)
    assert sources.opened == sources.closed == 3 and sources.read == 24


def test_two_iterations_at_once_have_their_own_readers():
    sources = Sources([10])
    readers = Readers(sources.open, most=2)
    for number in range(11):
        assert readers.block(0, number) == readers.block(0, number)
    assert sources.opened == 2 and sources.read == 20


def test_the_reader_that_has_waited_longest_is_closed():
    sources = Sources([10] * 5)
    readers = Readers(sources.open, most=3)
    for source in range(5):
        readers.block(source, 0)
    assert sources.closed == 2
    assert readers.block(4, 1) == (4, 1) and sources.opened == 5
    assert readers.block(0, 1) == (0, 1) and sources.opened == 6
    readers.close()
    assert sources.closed == 6
    assert readers.block(4, 2) == (4, 2) and sources.closed == 7
