"""`TrainsPosterior`, the base class of heads around another head with a posterior that `fit` trains."""

import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.posterior import expected_log_prob
from tfp_hybrid.heads.wrapper import Wrapper


class TrainsPosterior(Wrapper):
    """A head whose training maximizes E_q[log p(y | z)] - KL(q || prior) / N; a subclass makes q, its posterior.

    Args:
      head: The head inside, without an uncertainty of its own.
      train_size: N, the number of training rows, or the sum of their weights.
      **kwargs: Passed to `Wrapper`.

    Raises:
      ValueError: If `head` is not as above, or if `train_size` is not a finite number > 0.
    """

    trains_posterior = True

    def __init__(self, head: Head, train_size: float, **kwargs):
        owner = type(self).__name__
        if not isinstance(head, Head) or head.trains_posterior:
            raise ValueError(f"{owner}: `head` is {head!r}; wanted a head of `tfp_hybrid.heads` without a posterior.")
        if head.weight_stddev:
            raise ValueError(
                f"{owner}: `head` has weight_stddev = {head.weight_stddev}, an uncertainty of its own; wanted 0."
            )
        arguments.check_number(train_size, f"{owner}: `train_size`", 0, open=True)
        super().__init__(head, **kwargs)
        self.train_size = float(train_size)

    def __setattr__(self, name, value):
        if name == "posterior" and value is None and self.built:
            raise ValueError(
                f"{type(self).__name__}: `posterior` is None; wanted a `Posterior`. The head inside, `head`, has none."
            )
        super().__setattr__(name, value)

    @property
    def units(self) -> int:
        """u, the number of linear predictors of all entries of y."""
        return self.predictors * (self.event_shape[0] if self.event_shape else 1)

    def coefficients(self) -> tf.Tensor:
        """The kernel and the bias of the head inside, `(d + 1, u)`."""
        return tf.concat([self.kernel, self.bias[tf.newaxis]], 0)

    def training_log_prob(self, z, y) -> tf.Tensor:
        """Returns E_q[log p(y | z)], `(n,)`."""
        return expected_log_prob(self, z, y)

    def get_config(self) -> dict:
        config = super().get_config()
        return {name: config[name] for name in ("name", "trainable", "head")} | {"train_size": self.train_size}
