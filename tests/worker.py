"""What each of several workers runs, and one process, whose results they must have: `python worker.py JOBS OUT`.

JOBS is a JSON list of jobs, each with the name of a function here and its arguments; `OUT/job_0.npz` has the results of
the first one.
"""

import json
import os
import pathlib
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import tfp_hybrid as hy

ROWS, BATCH = 83, 16  # batches that no number of workers divides; the last has 3 rows


def rows(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 4)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32"), rng.uniform(0.5, 2.0, ROWS).astype("float32")


def flow_of(kind):
    if kind == "glow":
        return hy.bijectors.Glow((2, 2, 1), levels=1, steps=2, hidden_units=4, quantization_levels=None)
    if kind == "integers":
        return hy.bijectors.Glow((2, 2, 1), levels=1, steps=1, hidden_units=4, quantization_levels=4)
    return hy.bijectors.RealNVP((4,), couplings=2, hidden_units=(4,))


def model_of(strategy, flow="real_nvp", optimizer="adam", rate=0.05, seed=0, clipnorm=0.5):
    if seed is not None:
        keras.utils.set_random_seed(seed)
    with strategy.scope():
        model = hy.HybridModel(hy.flow_distribution(flow_of(flow)), hy.heads.Categorical(2), generative_weight=0.5)
        decay = keras.optimizers.schedules.ExponentialDecay(rate, 10, 0.9)
        make = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[optimizer]
        model.compile(make(decay, clipnorm=clipnorm), metrics=["accuracy"])
    return model


def weights_of(model):
    return {f"weight_{number}": weight.numpy() for number, weight in enumerate(model.trainable_weights)}


def equal(strategy, flow, optimizer, epochs=5):
    """Weights, history, metrics and predictions of a training that must not depend on the number of workers."""
    x, y, weight = rows()
    model = model_of(strategy, flow, optimizer)
    x = x.reshape(-1, *model.inputs_spec.shape)
    fit = model.fit(
        x, y, BATCH, epochs, sample_weight=weight, validation_data=(x[:9], y[:9]), shuffle=False, verbose=0
    ).history
    metrics = model.evaluate(x, y, BATCH, sample_weight=weight, verbose=0, return_dict=True)
    results = {f"fit_{name}": values for name, values in fit.items()}
    results |= {f"evaluate_{name}": value for name, value in metrics.items()}
    return results | {"predict": model.predict(x, BATCH, verbose=0), "log_prob": model.log_prob(x)} | weights_of(model)


def shuffled(strategy):
    """The log p(x) of an epoch at rate 0, in which every row must count once, and that of all rows; no seed is set."""
    x, y, _ = rows()
    model = model_of(strategy, rate=0.0, seed=None)
    fit = model.fit(x, y, BATCH, 2, verbose=0).history
    return {"epochs": fit["log_prob_x"], "rows": model.log_prob(x).mean()} | weights_of(model)


def of_other_data(strategy, flow="integers", epochs=3):
    """The weights at the end of each epoch where each worker has rows of its own, and loss and bits/dim."""
    worker = strategy.cluster_resolver.task_id
    model = model_of(strategy, flow, "adam")
    rng = np.random.default_rng(worker)
    x, y = rng.integers(4, size=(40 + 7 * worker, 2, 2, 1)), rng.integers(2, size=40 + 7 * worker)

    def own(_):
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)

    found = []

    def note(epoch, logs):
        found.append(np.concatenate([np.ravel(weight) for weight in model.weights]))

    data = strategy.distribute_datasets_from_function(own)
    history = model.fit(data, epochs=epochs, callbacks=keras.callbacks.LambdaCallback(on_epoch_end=note), verbose=0)
    return {"epochs": found} | {f"fit_{name}": values for name, values in history.history.items()}


def resumable(strategy, path, epochs=30, pause=0.02):
    """The weights and the loss of a training that may be killed and started again, in steps that take a while."""
    x, y, _ = rows()
    model = model_of(strategy)
    wait = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: time.sleep(pause))
    callbacks = [hy.callbacks.BackupAndRestore(path, save_freq=4), wait]
    model.fit(x, y, BATCH, epochs, shuffle=False, callbacks=callbacks, verbose=0)
    return {"loss": model.evaluate(x, y, BATCH, verbose=0)} | weights_of(model)


def afterwards(strategy):
    """What is made of a trained model, here an encoder, a flow and a head: calibration, a posterior, a rejector."""
    x, y, weight = rows()
    keras.utils.set_random_seed(0)
    with strategy.scope():
        encoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh")])
        flow = hy.bijectors.RealNVP((3,), couplings=2, hidden_units=(4,))
        model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2), encoder=encoder)
        model.compile(keras.optimizers.Adam(0.05))
    model.fit(x, y, BATCH, 3, sample_weight=weight, shuffle=False, verbose=0)
    hy.uncertainty.calibrate(model, x, y)
    hy.bayes.fit(model, x, y)
    rejector = hy.uncertainty.Rejector(model, hy.uncertainty.NegativeLogProb()).fit_threshold(x, quantile=0.9)
    return dict(rejector.predict(x, BATCH, verbose=0)) | weights_of(model)


def noise(strategy):
    """The dequantization noise of each replica, from the same pixels."""
    model = model_of(strategy, "integers")
    dequantize = next(part for part in model.flow.submodules if isinstance(part, hy.bijectors.Dequantize))
    x = tf.zeros((3, 2, 2, 1), tf.int32)

    def here():
        return dequantize.inverse(x, training=True)

    drawn = tf.function(lambda: strategy.run(here), autograph=False)()
    return {"noise": np.stack(strategy.experimental_local_results(drawn))}


def main(jobs, out):
    # Before anything else of TensorFlow: collective operations are set up once, at the start.
    strategy = (
        tf.distribute.MultiWorkerMirroredStrategy() if "TF_CONFIG" in os.environ else tf.distribute.get_strategy()
    )
    (pathlib.Path(out) / "joined").touch()
    for number, job in enumerate(json.loads(jobs)):
        results = globals()[job.pop("do")](strategy, **job)
        np.savez(pathlib.Path(out) / f"job_{number}.npz", **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
