"""The hybrid model of MNIST that is trained on the GPU: what it is, and its training step. With TensorFlow."""

import keras
import tensorflow as tf

import tfp_hybrid as hy
from paper.mnist import WEIGHT_STDDEV
from tfp_hybrid.bijectors import Background

PIXELS = 28 * 28
# As `python -m paper mnist` with a stretched background, but deeper and wider, for a card that is a hundred times
# faster; chosen beforehand, by no row of the test set.
SETTINGS = {
    "levels": 2,
    "steps": 16,
    "hidden": 256,
    "batch": 256,
    "policy": "mixed_bfloat16",
    "generative_weight": 0.5 / PIXELS,
    "learning_rate": 1e-3,
    "clipnorm": 50.0,
    "augmented_fraction": [0.6, 0.3],  # at the start and at the end
    "shift": 2.0,
    "seconds": 195.0,
    "seed": 0,
}
QUICK_SETTINGS = SETTINGS | {"levels": 1, "steps": 1, "hidden": 4, "batch": 16, "policy": "float32"}
QUICK_SETTINGS |= {"seconds": 4.0, "learning_rate": 1e-2}
ADAPTED_ROWS = 1024


def build(settings: dict, rows: int) -> hy.HybridModel:
    """The untrained model.

    Args:
      settings: `SETTINGS`, or others of the same keys.
      rows: of training, for the prior on the head's weights.
    """
    keras.utils.set_random_seed(settings["seed"])
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings["policy"])
    try:
        shape = (28, 28, 1)
        glow = hy.bijectors.Glow(
            shape,
            levels=settings["levels"],
            steps=settings["steps"],
            hidden_units=settings["hidden"],
            quantization_levels=None,
        )
        flow = hy.bijectors.FusedChain([hy.bijectors.Dequantize(shape), Background(shape), glow], shape)
        prior = keras.regularizers.L2(1 / (2 * rows * WEIGHT_STDDEV**2))
        head = hy.heads.Categorical(10, weight_stddev=WEIGHT_STDDEV, kernel_regularizer=prior)
        return hy.HybridModel(hy.flow_distribution(flow), head, generative_weight=settings["generative_weight"])
    finally:
        keras.config.set_dtype_policy(before)


def training_step(model: hy.HybridModel, settings: dict, x, y):
    """Compiles the model, with all that its training step needs, and returns the step: `(x, y) -> loss`.

    Args:
      model: adapted.
      settings: as of `build`.
      x, y: a batch.
    """
    model.compile(keras.optimizers.Adam(settings["learning_rate"], clipnorm=settings["clipnorm"]), jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    model.test_step((tf.constant(x), tf.constant(y)))  # builds the metrics
    model.reset_metrics()
    return lambda x, y: model.train_step((x, y))["loss"]
