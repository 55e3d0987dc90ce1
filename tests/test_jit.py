"""XLA compiles and trains every head and every kind of flow."""

import keras
import numpy as np
import pytest
from stock_flows import STOCK_FLOWS

import tfp_hybrid as hy
from tfp_hybrid.bijectors import Glow, RealNVP
from tfp_hybrid.heads.exponential_family import FAMILIES

pytestmark = pytest.mark.integration
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 2)).astype("float32")
IMAGES = RNG.integers(0, 16, (32, 4, 4, 1))
POSITIVE, COUNTS = RNG.gamma(2, 1, 32).astype("float32"), RNG.poisson(2, 32)


def labels_for(family):
    if family.startswith(("Bernoulli", "Binomial")):
        return COUNTS % 2
    return COUNTS if family.startswith(("Poisson", "NegativeBinomial")) else POSITIVE


ARGUMENTS = {
    "Categorical": lambda: [3],
    "Ordinal": lambda: [3],
    "Variational": lambda: [hy.heads.Normal(), 32],
}
# Of a mixture, a family, and vectors; or with side inputs, which are below.
NOT_ALONE = (
    *("ClassPosterior", "ExponentialFamily", "Group", "Head", "MixedEffects", "Offset", "PartlyObserved"),
    "SideInputHead",
)
CLASSES = {name: getattr(hy.heads, name) for name in hy.heads.__all__ if name not in NOT_ALONE}
HEADS = {
    name: (
        lambda name=name, cls=cls: cls(*ARGUMENTS.get(name, list)()),
        COUNTS % 2 if cls.classifies else COUNTS if name == "ZeroInflated" else POSITIVE,
    )
    for name, cls in CLASSES.items()
} | {f"family {name}": (lambda name=name: hy.heads.ExponentialFamily(name), labels_for(name)) for name in FAMILIES}
FLOWS = {
    "real_nvp_image": (
        lambda: hy.flow_distribution(RealNVP((4, 4, 1), couplings=2, levels=1, hidden_units=8, quantization_levels=16)),
        IMAGES,
    ),
    "glow": (
        lambda: hy.flow_distribution(Glow((4, 4, 1), levels=2, steps=1, hidden_units=8, quantization_levels=16)),
        IMAGES,
    ),
} | {name: (make, X) for name, make in STOCK_FLOWS.items()}


def check_trains(distribution, head, x, y):
    model = hy.HybridModel(distribution, head, generative_weight=0.1)
    before = model.get_weights()
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=True)
    history = model.fit(x, y, epochs=1, batch_size=16, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    changed = [(new != old).any() for new, old in zip(model.get_weights(), before, strict=True)]
    assert sum(changed) > 2


USUAL = {"Categorical", "Normal", "family Poisson"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in USUAL else pytest.mark.nightly) for name in HEADS]
)
def test_head(name):
    head, y = HEADS[name]
    check_trains(hy.flow_distribution(RealNVP((2,), couplings=2, hidden_units=(8,))), head(), X, y)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "glow" else pytest.mark.nightly) for name in FLOWS]
)
def test_flow(name):
    make, x = FLOWS[name]
    check_trains(make(), hy.heads.Normal(), x, POSITIVE)


@pytest.mark.nightly
def test_several_steps_per_execution_are_the_single_ones():
    weights = []
    for steps_per_execution in (1, 2):
        keras.utils.set_random_seed(0)
        model = hy.HybridModel(hy.flow_distribution(RealNVP((2,), couplings=2, hidden_units=(8,))), hy.heads.Normal())
        model.compile(keras.optimizers.Adam(1e-2), jit_compile=True, steps_per_execution=steps_per_execution)
        model.fit(X, POSITIVE, batch_size=12, shuffle=False, verbose=0)  # steps of 12, 12 and 8 rows
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


SIDE_INPUTS = {
    "slopes": (
        lambda: hy.heads.MixedEffects(
            hy.heads.Normal(), {"student": hy.heads.Group(["ann", "bo", "cy"], slopes=["days"])}, train_size=32
        ),
        {"student": RNG.choice(["ann", "bo", "cy"], 32), "days": RNG.normal(size=32)},
        POSITIVE,
    ),
    "crossed groups and an exposure": (
        lambda: hy.heads.MixedEffects(
            hy.heads.Offset(hy.heads.ExponentialFamily("Poisson"), exposure="hours"),
            {"clinic": hy.heads.Group([-7, 3, 2**40]), "doctor": hy.heads.Group([1, 2])},
            train_size=32,
        ),
        {
            "clinic": RNG.choice([-7, 3, 2**40], 32),
            "doctor": RNG.integers(1, 3, 32),
            "hours": RNG.gamma(2, 1, 32),
        },
        COUNTS,
    ),
}


@pytest.mark.parametrize("name", SIDE_INPUTS)
def test_side_inputs_are_those_of_the_graph(name):
    """The ids are numbered inside of the step, as is an id that no level has."""
    head, side, y = SIDE_INPUTS[name]
    new = {key: (["new"] * 32 if values.dtype.kind == "U" else values - 2) for key, values in side.items()}
    new |= {"hours": side["hours"]} if "hours" in side else {}
    weights, predictions = [], []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        model = hy.HybridModel(hy.flow_distribution(RealNVP((2,), couplings=2, hidden_units=(8,))), head())
        before = model.get_weights()
        model.compile(keras.optimizers.Adam(1e-2), jit_compile=jit_compile)
        model.fit({"x": X} | side, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        weights.append(model.get_weights())
        assert sum((one != other).any() for one, other in zip(before, weights[-1], strict=True)) > 4
        predictions.append([model.predict({"x": X} | given, batch_size=16, verbose=0) for given in (side, new)])
        assert not np.allclose(*predictions[-1])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(*predictions, rtol=1e-4, atol=1e-5)
