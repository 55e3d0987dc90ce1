"""What a user waits for in a new process, from imports to the answers of a loaded model.

`python -m benchmarks.waiting CASE`, with a case as JSON, prints the seconds of each stage as a line of JSON.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import cases
from benchmarks.process import ENVIRONMENT, ROOT, WorkerFailed

STAGES = (
    "import TensorFlow, Keras and TFP",
    "import tfp_hybrid, after them",
    "make and compile a model",
    "first fit of one batch",
    "fit of another batch",
    "first predict",
    "save",
    "load_model",
    "first predict of the loaded model",
)


def stages(case) -> dict[str, float]:
    """Runs this module in a new process, and returns the seconds of each of `STAGES`.

    Raises:
      WorkerFailed: If the process fails.
    """
    command = [sys.executable, "-m", "benchmarks.waiting", json.dumps(cases.to_json(case))]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise WorkerFailed(f"crashed with status {done.returncode}: {done.stderr.strip().splitlines()[-1][:200]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(case):
    seconds = {}

    @contextlib.contextmanager
    def stage(i):
        start = time.perf_counter()
        yield
        seconds[STAGES[i]] = time.perf_counter() - start

    with stage(0):
        import keras
        import tensorflow as tf
        import tensorflow_probability

        # TFP and Keras load their parts at first use; a flow needs these.
        _ = tensorflow_probability.bijectors.Chain, keras.Model, tf.Variable
    with stage(1):
        import tfp_hybrid  # noqa: F401
    from benchmarks.contestants import tfp_hybrid as ours

    data = cases.batches(case, 0)
    x, y = (batches[0] for batches in data)
    with stage(2):
        model = ours.compiled_model(case, data)
    with stage(3):
        model.fit(x, y, batch_size=len(x), verbose=0)
    with stage(4):
        model.fit(x, y, batch_size=len(x), verbose=0)
    with stage(5):
        model.predict(x, batch_size=len(x), verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        with stage(6):
            model.save(path)
        with stage(7):
            loaded = keras.models.load_model(path)
    with stage(8):
        loaded.predict(x, batch_size=len(x), verbose=0)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(cases.from_json(json.loads(sys.argv[1])))
