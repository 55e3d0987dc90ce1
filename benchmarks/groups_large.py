"""Trains on many rows of many levels and prints, as JSON, the seconds and the largest memory of this process."""

import json
import resource
import sys
import time

from benchmarks.groups_data import simulated
from benchmarks.groups_models import fit
from tfp_hybrid import heads


def main(rows: int, levels: int):
    started = time.perf_counter()
    model, found = fit(simulated(rows, levels), slice(None), heads.Normal())
    answer = {
        "variance of level": float(model.head.variance_components()["level"].item()),
        "rounds": found.rounds,
        "seconds": time.perf_counter() - started,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
