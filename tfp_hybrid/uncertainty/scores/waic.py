"""`WAIC`: the density of an ensemble of models, minus the disagreement of the models."""

import keras
import tensorflow as tf

from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.uncertainty.scores.base import Score, check_model, model_config


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class WAIC(Score):
    """-(E[log p(x)] - Var[log p(x)]) in nats, over an ensemble of models: the scored one and `others`.

    Models of the same architecture, trained on the same data, agree only where they had data.

    Args:
      others: A list of at least one more `DensityModel` of the same inputs, trained from another seed.
      **kwargs: Passed to `Score`.

    Raises:
      ValueError: If `others` is empty or not a list, or holds something that is not a `DensityModel`.

    References:
      Choi, Jang and Alemi 2018, "WAIC, but Why? Generative Ensembles for Robust Anomaly Detection", section 3.
    """

    title = "WAIC"

    def __init__(self, others: list[DensityModel], **kwargs):
        super().__init__(**kwargs)
        if not isinstance(others, (list, tuple)) or not others:
            raise ValueError(
                f"WAIC: `others` is {others!r}; wanted a list of at least one more HybridModel or DensityModel."
            )
        for other in others:
            check_model(other)
        self.others = list(others)

    def of(self, encoding: Encoding) -> tf.Tensor:
        shapes = {tuple(model.distribution.event_shape) for model in (encoding.model, *self.others)}
        if len(shapes) > 1:
            raise ValueError(f"WAIC: the models' inputs have shapes {sorted(shapes)}; they must match.")
        log_probs = tf.stack(
            [encoding.log_prob, *(self._log_prob(model, encoding.with_condition(encoding.x)) for model in self.others)]
        )
        mean, variance = tf.nn.moments(log_probs, axes=[0])
        return variance - mean

    @staticmethod
    def _log_prob(model, x):
        # x comes without the side inputs of heads, which log p(x) does not need.
        return (model.encode_checked if model.side_inputs else model.encode)(x).log_prob

    def get_config(self) -> dict:
        others = [model_config(model) for model in self.others]
        return super().get_config() | {"others": others}

    @classmethod
    def from_config(cls, config: dict):
        others = [keras.saving.deserialize_keras_object(model) for model in config["others"]]
        return cls(**config | {"others": others})
