"""`Sketch`: a histogram of scores whose state depends on the scores alone, not on the order in which they came."""

import numpy as np

_LARGEST_SHIFT = 61  # leaves at most eight buckets of all numbers


class Sketch:
    """Counts of finite numbers in cells, that can be added in any order.

    The cells of the real line are cut at

    * numbers of a few leading binary digits. The bits of a positive float64, read as an integer, grow with the number,
      so `bits >> shift` is a bucket: 52 - shift is the number of binary digits after the first that it distinguishes,
      and its width is at most 2^(shift - 52) of its lower end. Negative numbers mirror positive ones.
    * `edges`, for numbers that are close together in comparison with their size.

    Of more than `most` occupied cells, pairs of buckets are merged (`shift` grows by one) until there are at most
    `most`. The number of occupied cells grows with the set of numbers for every `shift`, so the last `shift`, and with
    it the whole state, is a function of the numbers: merging is commutative and associative, bit for bit. (The package
    ddsketch has buckets like the first ones alone, in an array whose offset depends on the order, with a sum in
    floating point, and adds one number at a time.)

    Args:
      edges: Increasing finite numbers, `(k,)`. A cell ends with its edge included.
      shift: The number of trailing bits of a float64 that the buckets leave out, at first.
      most: The largest number of occupied cells; more than `k + 8`.
      indices: The indices of the occupied cells, increasing.
      counts: How many numbers each of them holds, at least 1.

    References:
      Masson, Rim and Lee 2019, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees",
      for buckets of constant relative width. Epicoco, Melle, Cafaro, Pulimeno and Morleo 2020, "UDDSketch: Accurate
      Tracking of Quantiles in Data Streams", for merging pairs of them.
    """

    def __init__(self, edges: np.ndarray, shift: int, most: int, indices=(), counts=()):
        self.edges, self.shift, self.most = edges, shift, most
        self.indices, self.counts = np.asarray(indices, np.int64), np.asarray(counts, np.int64)
        self._starts = _keys(edges) + 1  # of the cells above each edge
        while len(self.indices) > most:
            self._coarsen(self.shift + 1)

    def of(self, values: np.ndarray) -> "Sketch":
        """Returns a sketch of the same cells with finite numbers, `(n,)` in float64, alone."""
        if not len(values):
            return Sketch(self.edges, self.shift, self.most)
        indices = self._indices(_keys(values))
        first = indices.min()
        counts = np.bincount(indices - first)
        occupied = np.flatnonzero(counts)
        return Sketch(self.edges, self.shift, self.most, occupied + first, counts[occupied])

    def __add__(self, other: "Sketch") -> "Sketch":
        shift = max(self.shift, other.shift)
        mine, theirs = self.at(shift), other.at(shift)
        indices, counts = _summed(np.r_[mine.indices, theirs.indices], np.r_[mine.counts, theirs.counts])
        return Sketch(self.edges, shift, self.most, indices, counts)

    def __eq__(self, other):
        return (
            isinstance(other, Sketch)
            and self.shift == other.shift
            and np.array_equal(self.edges, other.edges)
            and np.array_equal(self.indices, other.indices)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None

    def __len__(self):
        """The number of numbers."""
        return int(self.counts.sum())

    def at(self, shift: int) -> "Sketch":
        """Returns the same numbers in the buckets of a larger shift."""
        if shift == self.shift:
            return self
        coarse = Sketch(self.edges, self.shift, self.most, self.indices, self.counts)
        coarse._coarsen(shift)
        return coarse

    def quantiles(self, q: np.ndarray) -> np.ndarray:
        """Returns, for each q, the smallest number x such that a share q of all is at most x; NaN without numbers.

        It is off by less than the cell of x is wide: by at most a share 2^(shift - 53) of x, for x below 1e-307 by
        1e-307.
        """
        if not len(self.indices):
            return np.full(np.shape(q), np.nan)
        total = len(self)
        ranks = np.clip(np.ceil(np.asarray(q) * total), 1, total)
        places = np.searchsorted(np.cumsum(self.counts), ranks)
        low, high = (_values(keys)[places] for keys in self._bounds())
        with np.errstate(divide="ignore", over="ignore"):
            return 2 / (1 / low + 1 / high)  # whose relative error is the same at both ends

    def at_most(self, edges: np.ndarray) -> np.ndarray:
        """Returns how many numbers are at most each of `edges`, which are some of the sketch's."""
        total = np.r_[0, np.cumsum(self.counts)]
        return total[np.searchsorted(self._bounds()[0], _keys(edges), side="right")]

    def runs(self) -> list[list[int]]:
        """Returns the state as lists of the index of a first cell, and the counts of it and those that follow."""
        if not len(self.indices):
            return []
        breaks = np.flatnonzero(np.diff(self.indices) != 1) + 1
        parts = zip(np.split(self.indices, breaks), np.split(self.counts, breaks), strict=True)
        return [[int(indices[0]), *counts.tolist()] for indices, counts in parts]

    def from_runs(self, runs: list[list[int]], shift: int) -> "Sketch":
        """Returns the sketch of the same cells that has these `runs`.

        Raises:
          ValueError: If no numbers have this state.
        """
        if not self.shift <= shift <= _LARGEST_SHIFT:
            raise ValueError(f"shift is {shift}; wanted {self.shift} to {_LARGEST_SHIFT}")
        indices = [run[0] + i for run in runs for i in range(len(run) - 1)]
        counts = [count for run in runs for count in run[1:]]
        if len(indices) > self.most or any(len(run) < 2 for run in runs) or any(np.diff(indices) < 1):
            raise ValueError(f"cells has {len(indices)} cells; wanted at most {self.most}, increasing")
        if not all(0 < count < 2**62 for count in counts) or sum(counts) >= 2**62:
            raise ValueError("cells has a count that is not positive, or too large")
        lowest, highest = self.at(shift)._indices(_keys(np.array([-1, 1]) * np.finfo(float).max)).tolist()
        if any(not lowest <= index <= highest for index in indices):
            raise ValueError("cells has an index that no finite number has")
        found = Sketch(self.edges, shift, self.most, indices, counts)
        low, high = found._bounds()
        if (low > high).any():
            raise ValueError("cells has an index that no number has")
        return found

    def _indices(self, keys):
        """The bucket and the number of edges below a key grow with it, so that their sum distinguishes all cells."""
        return (keys >> self.shift) + np.searchsorted(self._starts, keys, side="right")

    def _bounds(self):
        """Returns the smallest and the largest key of each occupied cell."""
        first = self._indices(self._starts)  # of the cells above each edge
        cells = np.searchsorted(first, self.indices, side="right")
        buckets = self.indices - cells
        ends = np.iinfo(np.int64)
        low = np.maximum(buckets << self.shift, np.r_[ends.min, self._starts][cells])
        high = np.minimum((buckets << self.shift) + (2**self.shift - 1), np.r_[self._starts, ends.max][cells] - 1)
        return low, high

    def _coarsen(self, shift):
        keys = self._bounds()[0]
        self.shift = shift
        self.indices, self.counts = _summed(self._indices(keys), self.counts)


def cumulative(*sketches: Sketch) -> list[np.ndarray]:
    """Returns for each of the sketches, of the same edges, how many numbers are at most the end of each common cell."""
    shift = max(sketch.shift for sketch in sketches)
    coarse = [sketch.at(shift) for sketch in sketches]
    cells = np.unique(np.concatenate([sketch.indices for sketch in coarse]))
    totals = [np.r_[0, np.cumsum(sketch.counts)] for sketch in coarse]
    return [
        total[np.searchsorted(sketch.indices, cells, side="right")]
        for total, sketch in zip(totals, coarse, strict=True)
    ]


def _summed(indices, counts):
    """Returns the different indices, increasing, and the sum of the counts of each."""
    different, places = np.unique(indices, return_inverse=True)
    sums = np.zeros(len(different), np.int64)
    np.add.at(sums, places, counts)
    return different, sums


def _keys(values):
    """Returns integers in the order of finite numbers: the bits of positive ones, and their complement below zero."""
    values = np.asarray(values, np.float64) + 0.0  # -0.0 becomes 0.0
    bits = np.abs(values).view(np.int64)
    return np.where(values < 0, ~bits, bits)


def _values(keys):
    """Returns the numbers of `_keys`."""
    return np.where(keys < 0, -(~keys).view(np.float64), np.abs(keys).view(np.float64))
