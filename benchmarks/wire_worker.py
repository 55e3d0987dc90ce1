"""One of several workers that train together; see wire.py: `python -m benchmarks.wire_worker CASE SEED STEPS`."""

import json
import pathlib
import sys

WARM_UP = 5
DEVICES = pathlib.Path("/proc/net/dev")


def sent_on_loopback() -> int:
    """Returns the bytes that the loopback device of this machine has sent so far."""
    for line in DEVICES.read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    raise OSError(f"{DEVICES} has no loopback device")


def main(case, seed, steps):
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before TensorFlow does anything else

    import keras
    import numpy as np

    from benchmarks import cases
    from benchmarks.contestants import tfp_hybrid as ours

    case, seed, steps = cases.from_json(json.loads(case)), int(seed), int(steps)
    data = cases.batches(case, seed)
    with strategy.scope():
        model = ours.compiled_model(case, data)
    x, y = (np.concatenate(column)[: case.batch] for column in data[:2])
    seen = {}

    def note(batch, logs):
        if batch + 1 in (WARM_UP, WARM_UP + steps):
            seen[batch + 1] = sent_on_loopback()

    rows = np.resize(x, ((WARM_UP + steps) * case.batch, *x.shape[1:]))
    labels = np.resize(y, (len(rows), *y.shape[1:]))
    look = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    model.fit(rows, labels, case.batch, shuffle=False, callbacks=[look], verbose=0)
    weights = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    per_step = (seen[WARM_UP + steps] - seen[WARM_UP]) / steps
    print(json.dumps({"weights": weights, "gradients": 4 * weights, "on_the_wire": per_step}))


if __name__ == "__main__":
    main(*sys.argv[1:])
