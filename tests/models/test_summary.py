"""What a model prints of itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import uncertainty

tfb, tfd = tfp.bijectors, tfp.distributions


def printed(model):
    lines = []
    model.summary(print_fn=lines.append)
    return "\n".join(lines)


def rows(text):
    """The cells of a table's rows."""
    lines = (line for line in text.splitlines() if line.startswith("│"))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_summary_shows_steps_and_shapes():
    flow = hy.bijectors.Glow((8, 8, 1), levels=2, steps=3, hidden_units=4, quantization_levels=17)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(10, name="digits"))
    text = printed(model)
    assert "?" not in text
    table = rows(text)
    assert ["density (ModuleLayer)", "(None, 64)"] in [row[:2] for row in table]
    assert ["digits (Categorical)", "(None, 10)", "650"] in table
    steps = [row for row in table if row[0] == "steps (3 x step)"]
    assert [row[1:3] for row in steps] == [["(None, 4, 4, 4)"] * 2, ["(None, 2, 2, 8)"] * 2]
    counted = sum(int(row[3].replace(",", "")) for row in table if len(row) == 4)
    assert counted == sum(int(np.prod(weight.shape)) for weight in flow.keras_weights())


def test_summary_looks_into_stock_chains():
    flow = tfb.Chain([tfb.Exp(), hy.bijectors.ActNorm((4,)), tfb.Shift(tf.Variable(tf.ones(4)))])
    model = hy.DensityModel(tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(4)), flow))
    assert [[row[0], row[3]] for row in rows(printed(model)) if len(row) == 4] == [
        ["exp", "0"],
        ["act_norm", "8"],
        ["shift", "4"],
    ]


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (hy.heads.Normal(), "(None)"),
        (hy.heads.Bernoulli((3,)), "(None, 3)"),
        (hy.heads.ExponentialFamily("Poisson"), "(None)"),
    ],
)
def test_summary_shows_the_shape_of_predictions(head, shape):
    assert shape in [row[1] for row in rows(printed(tiny_model(head)))]


def test_summary_takes_heads_with_a_build_of_their_own():
    class Mine(hy.heads.Normal):
        def build(self, input_shape):
            super().build(input_shape)

    assert "(None)" in [row[1] for row in rows(printed(tiny_model(Mine())))]


def test_reprs_say_what_they_are():
    x, _ = blobs(32)
    model = tiny_model(couplings=3)
    assert repr(model.flow) == "FusedChain((2,), 3 bijectors, name='real_nvp')"
    assert "flow=FusedChain((2,)" in repr(model) and "head=Categorical" in repr(model)
    assert repr(uncertainty.Typicality()) == "Typicality(fitted=False)"
    typicality = uncertainty.Typicality().fit(model, x)
    assert repr(typicality) == "Typicality(fitted=True)" and repr(uncertainty.LatentNorm()) == "LatentNorm()"
    rejector = uncertainty.Rejector(model, typicality)
    assert repr(rejector).endswith("Typicality(fitted=True), no threshold)")
    threshold = float(rejector.fit_threshold(x, quantile=0.5).threshold.numpy())
    assert repr(rejector).endswith(f"threshold={threshold:.6g})")


def test_networks_are_told_from_those_of_keras():
    names = [layer.name for layer in hy.networks.ConvNet((4, 4, 1), 2).layers]
    assert all(name.startswith("coupling_conv2d") for name in names) and issubclass(
        hy.networks.CouplingConv2D, keras.layers.Conv2D
    )
