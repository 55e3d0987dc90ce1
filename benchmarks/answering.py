"""Answers single rows by SavedModels, in a process that knows TensorFlow alone.

`python answering.py ROWS.npy FOLDER:SIGNATURE...` prints, as a line of JSON, the seconds of each request to each
signature; they take turns.
"""

import json
import sys
import time

import numpy as np
import tensorflow as tf

WARM_UP = 50


def main(rows, *targets):
    x = [tf.constant(row[np.newaxis]) for row in np.load(rows)]
    loaded = [tf.saved_model.load(target.partition(":")[0]) for target in targets]
    signatures = [one.signatures[target.partition(":")[2]] for one, target in zip(loaded, targets, strict=True)]
    seconds = [[] for _ in signatures]
    warm_up = x[:WARM_UP]
    for row in warm_up + x:
        for signature, spent in zip(signatures, seconds, strict=True):
            start = time.perf_counter()
            for output in signature(x=row).values():
                output.numpy()
            spent.append(time.perf_counter() - start)
    print(json.dumps([spent[len(warm_up) :] for spent in seconds]))


if __name__ == "__main__":
    main(*sys.argv[1:])
