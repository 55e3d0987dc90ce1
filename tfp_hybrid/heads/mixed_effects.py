"""A head with random effects for the groups that rows belong to."""

import json
import zlib

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.effects import Effects
from tfp_hybrid.heads.group import Group
from tfp_hybrid.heads.normal import StandardizedResponse
from tfp_hybrid.heads.side_input_head import SideInputHead, number_column
from tfp_hybrid.heads.trains_posterior import TrainsPosterior

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class MixedEffects(TrainsPosterior, SideInputHead):
    """A head whose linear predictor has random effects beside the fixed ones of z.

        E[y | x] = g^-1(beta^T f(x) + b + u^T a),     u_l ~ Normal(0, C)       (appendix B.1 of the paper)

    a says which level of each group the row belongs to, such as its school, and has the row's slopes. Levels with few
    rows are drawn to the mean of all; a level that was not seen has the effect 0 and the variance of the prior.

    Training maximizes for each row, with q(u) a Normal for each level,

        E_q[log p(y | z, u)] - KL(q || Normal(0, C)) / N

    where C has the highest evidence given q. Afterwards, `bayes.fit_effects` finds fixed and random effects and C
    together, exactly for a `Normal` head. p(y|x) is the average over q, with kernel and bias as they are.

    Groups may be crossed, such as students and instructors. Nested ones want ids that differ between the outer levels:
    `"school 7/class 1"`, not `"class 1"`.

    Args:
      head: The head inside: any `Head` with a kernel, without an uncertainty of its own.
      groups: A dict from the name of each group, which is that of its side input, to a `Group`.
      train_size: N, the number of training rows.
      trainable: Whether training changes the head, as for any Keras layer.
      name: The name of the layer.

    Call arguments:
      z: `(..., d + c)`: the latent and the columns of side inputs, as `Encoding.features` of a model has them. Returns
        p(y | z) with batch shape `(...)`.

    Raises:
      ValueError: If `head`, `groups` or `train_size` is not as above.

    Example:

    >>> head = heads.MixedEffects(heads.Normal(), {"school": heads.Group(["a", "b", "c"])}, train_size=500)
    >>> sorted(head.side_inputs)
    ['school']

    References:
      Nalisnick et al. 2019, "Hybrid Models with Deep and Invertible Features", appendix B.1; Bates, Maechler, Bolker
      and Walker 2015, "Fitting Linear Mixed-Effects Models Using lme4".
    """

    def __init__(
        self,
        head: Head,
        groups: dict[str, Group],
        train_size: float,
        trainable: bool = True,
        name: str | None = None,
    ):
        super().__init__(head, train_size, trainable=trainable, name=name)
        self.groups = _checked_groups(groups, head)
        self.can_widen = head.can_widen

    def build(self, latent_shape):
        super().build(latent_shape)
        sizes = [(len(group), group.size) for group in self.groups.values()]
        described = json.dumps([[name, group.get_config()] for name, group in self.groups.items()])
        levels = zlib.crc32(described.encode())
        self.posterior = Effects(
            self._fixed, self.coefficients, sizes, levels, self.train_size, name="effects", dtype=self.variable_dtype
        )

    def _fixed(self, inside):
        eta = self.head.linear_predictor(inside)
        return tf.reshape(eta, tf.concat([tf.shape(inside)[:-1], [self.units]], 0))

    @property
    def own_inputs(self):
        ids = {name: tf.TensorSpec((), group.dtype) for name, group in self.groups.items()}
        slopes = [name for group in self.groups.values() for name in group.slopes]
        return ids | {name: tf.TensorSpec((), tf.float32) for name in slopes}

    def own_columns(self, given):
        columns = []
        for name, group in self.groups.items():
            columns += [group.numbers_of(given[name]), *(given[slope] for slope in group.slopes)]
        return [tf.cast(one, self.variable_dtype) for one in columns]

    def check_own(self, given, argument):
        found = {}
        for name, group in self.groups.items():
            found[name] = group.check(given[name], name, argument)
            found |= {slope: number_column(given[slope], slope, argument) for slope in group.slopes}
        return found

    def check_training_inputs(self, given, argument="x"):
        for name, group in self.groups.items():
            if not group.are_levels(given[name]).any():
                raise ValueError(
                    f"{argument}: {name!r} holds no id that is a level; wanted those that its `Group` has."
                )

    def linear_predictor(self, z) -> tf.Tensor:
        """The mean of eta over q."""
        return self.shaped(self.posterior.linear_predictor(z))

    def variance_components(self) -> dict[str, np.ndarray]:
        """Returns the covariance C of the effects of each group, `(k u, k u)`, in the unit of the linear predictor.

        Of a `Normal` head that unit is the standard deviation of the responses; here, it is the unit of y.
        """
        found = {}
        for i, (name, group) in enumerate(self.groups.items()):
            unit = np.tile(self._unit(), group.size)
            found[name] = self.posterior.prior_covariance(i).numpy() * unit[:, np.newaxis] * unit
        return found

    def effects(self, group: str) -> tfd.Distribution:
        """Returns the effects of the levels of a group, in the order of `groups[group].levels`.

        After `bayes.fit_effects`, it is their posterior with kernel, bias and all other effects integrated out.

        Returns:
          A Normal with batch shape `(L,)`; or a `tfd.MultivariateNormalTriL` of the `k u` effects of a level, if there
          are several, in the order (intercept of each predictor, first slope of each, ...). In the unit of
          `variance_components`.

        Raises:
          ValueError: If there is no such group.
        """
        if group not in self.groups:
            raise ValueError(f"effects: group is {group!r}; wanted one of {list(self.groups)}.")
        q = self.posterior.alone(list(self.groups).index(group))
        unit = tf.constant(np.tile(self._unit(), self.groups[group].size), q.dtype)
        loc, scale = q.loc * unit, q.scale_tril * unit[:, tf.newaxis]
        if unit.shape[0] == 1:
            return tfd.Normal(loc[..., 0], scale[..., 0, 0])
        return tfd.MultivariateNormalTriL(loc, scale)

    def _unit(self):
        """What one unit of each linear predictor is, `(u,)`."""
        if isinstance(self.unwrapped(), StandardizedResponse) and self.predictors == 1:
            return np.broadcast_to(self.unwrapped().response_stddev.numpy(), self.event_shape).reshape(-1)
        return np.ones(self.units, self.variable_dtype)

    def widen(self, factor: float):
        """As that of the head inside; effects on logits are divided, too."""
        self.head.widen(factor)
        if not isinstance(self.unwrapped(), StandardizedResponse):
            for i in range(len(self.groups)):
                q = self.posterior.of_group(i)
                rest = self.posterior.rest[i].numpy() / factor**2
                self.posterior.set_effects(i, q.loc.numpy() / factor, q.covariance().numpy() / factor**2, rest)

    def get_config(self) -> dict:
        groups = {name: keras.saving.serialize_keras_object(group) for name, group in self.groups.items()}
        return super().get_config() | {"groups": groups}

    @classmethod
    def from_config(cls, config: dict):
        groups = {name: keras.saving.deserialize_keras_object(group) for name, group in config["groups"].items()}
        return super().from_config(config | {"groups": groups})


def _checked_groups(groups, head):
    if not isinstance(groups, dict) or not groups or not all(isinstance(one, Group) for one in groups.values()):
        raise ValueError(f"MixedEffects: `groups` is {groups!r}; wanted a dict from names to `heads.Group`.")
    slopes = {name for group in groups.values() for name in group.slopes}
    for name in groups:
        if not isinstance(name, str) or name in slopes or name in head.side_inputs:
            raise ValueError(f"MixedEffects: `groups` has the name {name!r}; wanted a string that names nothing else.")
    return dict(groups)
