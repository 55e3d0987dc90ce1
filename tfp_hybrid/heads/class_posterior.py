"""A head that is Bayes' rule on a mixture of classes."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.classes import Classes
from tfp_hybrid.interop import ModuleLayer
from tfp_hybrid.latents import ClassMixture
from tfp_hybrid.serialization import deserialize, serialize

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class ClassPosterior(Classes):
    """p(y|x) by Bayes' rule, from the classes of the latent distribution.

        p(y = k | z) = pi_k p(z | k) / p(z)

    It has no weights of its own: the mixture is that of p(x), so log p(y|x) + log p(x) is log p(x, y). (The log-det of
    the flow is the same for all classes, so this is Bayes' rule in x, too.) Labels are integers 0 .. K-1; the
    predictive mean is the vector of class probabilities, `(n, K)`. With `scales="shared"` and one component, it is a
    softmax head whose kernel is that of the means divided by the variances.

    Args:
      mixture: The `latents.ClassMixture` that is the latent distribution of the same model.
      one_hot: Whether labels are one-hot rows, `(n, K)`.
      **kwargs: The arguments of a Keras layer.

    Raises:
      ValueError: If `mixture` is not a `ClassMixture`, or if an argument of other heads is given, which have a kernel.

    References:
      Izmailov, Kirichenko, Finzi and Wilson 2020, "Semi-Supervised Learning with Normalizing Flows", eq. 3.
    """

    has_kernel = False

    def __init__(self, mixture: ClassMixture, one_hot: bool = False, **kwargs):
        if not isinstance(mixture, ClassMixture):
            raise ValueError(f"ClassPosterior: `mixture` is {mixture!r}; wanted a `latents.ClassMixture`.")
        for argument in ("num_classes", "weight_stddev", "kernel_initializer", "kernel_regularizer", "posterior"):
            self.refuse(kwargs, argument, "the mixture has all weights")
        count = mixture.num_classes
        super().__init__(count, predictors=count, one_hot=one_hot, **{"dtype": mixture.dtype.name} | kwargs)
        self.of_latent = ModuleLayer(mixture, name="mixture")

    @property
    def mixture(self) -> ClassMixture:
        """The mixture that this head shares with p(x)."""
        return self.of_latent.module

    def build(self, latent_shape):
        size = self.mixture.event_shape.num_elements()
        if latent_shape[-1] != size:
            raise ValueError(f"ClassPosterior: z has {latent_shape[-1]} entries; wanted the mixture's {size}.")

    def share(self, variables: list[keras.Variable]):
        if not {id(one) for one in self.of_latent.variables} <= {id(one) for one in variables}:
            raise ValueError(
                "ClassPosterior: `mixture` is not the latent distribution of the model; wanted the one that was passed "
                "to `flow_distribution(flow, latent=mixture)`."
            )
        self.of_latent.leave_out(variables)

    def linear_predictor(self, z) -> tf.Tensor:
        """Returns log p(z, k) of all classes, `(..., K)`."""
        shape = tf.concat([tf.shape(z)[:-1], self.mixture.event_shape_tensor()], 0)
        return self.mixture.joint_log_probs(tf.reshape(z, shape))

    def distribution(self, eta) -> tfd.Categorical:
        return tfd.Categorical(logits=eta)

    def get_config(self) -> dict:
        config = {
            name: value
            for name, value in super().get_config().items()
            if name not in ("num_classes", "kernel_initializer", "kernel_regularizer")
        }
        return config | {"mixture": serialize(self.mixture, "mixture")}

    @classmethod
    def from_config(cls, config: dict):
        return cls(**config | {"mixture": deserialize(config["mixture"])})
