"""Exported modules: plain convolutions at the precision that was asked for, and nothing that only TensorFlow reads."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_hybrid as hy
from benchmarks import cases, exporting, stablehlo
from benchmarks.export_stablehlo import trained_model
from tfp_hybrid import convolution, execution


def refuse(*arguments, **options):
    raise AssertionError("the CPU's convolution was called")


def exported_step(policy="float32"):
    case = cases.QUICK_CASES["glow"]
    x, y = (tf.constant(batches[0]) for batches in cases.batches(case, 0))
    model = trained_model(case, policy, x, y, seed=0)

    def step(x, y):
        return model.train_step((x, y))["loss"]

    return step, (x, y), exporting.export(step, "xy", x, y)


@pytest.mark.integration
def test_accelerator_gets_plain_convolutions(monkeypatch):
    case = cases.QUICK_CASES["glow"]
    x, y = (tf.constant(batches[0]) for batches in cases.batches(case, 0))
    model = trained_model(case, "float32", x, y, seed=0)
    monkeypatch.setattr(convolution, "_convolution_and_bias", refuse)
    exported = exporting.export(lambda x, y: model.train_step((x, y))["loss"], "xy", x, y)
    lines = [line for line in exported.text.splitlines() if "stablehlo.convolution" in line]
    # Forward, and the gradients of input and kernel, of three convolutions on each level.
    assert len(lines) == 3 * 3 * case.levels * case.steps
    assert all("stride = [1, 1]" in line for line in lines)  # the CPU's take blocks of 2 x 2 pixels by a stride of 2
    assert "mhlo" not in exported.text and "loc(" not in exported.text
    with pytest.raises(AssertionError, match="the CPU's convolution"):
        model.predict(x, verbose=0)


@pytest.mark.integration
def test_precision():
    _, _, exported = exported_step()
    products = len(re.findall(r"stablehlo\.(?:convolution|dot)\b|stablehlo\.dot_general\b", exported.text))
    for precision in stablehlo.PRECISIONS:
        text = stablehlo.with_precision(exported.text, precision)
        assert (
            len(re.findall(rf"precision {precision}>, #stablehlo<precision {precision}>", text))
            + len(re.findall(rf"precision = \[{precision}, {precision}\]", text))
            == products
        )
    with pytest.raises(ValueError, match="wanted one of DEFAULT, HIGH, HIGHEST"):
        stablehlo.with_precision("", "LOW")


@pytest.mark.nightly
def test_variables_are_as_before_after_the_results_are_taken():
    step, batch, exported = exported_step()
    before = exported.values()
    loss, *updated = exporting.results(exported, step, *batch)
    for value, old in zip(exported.values(), before, strict=True):
        np.testing.assert_array_equal(value, old)
    assert np.isfinite(loss) and len(updated) == len(exported.aliases)
    momenta = [i for i, name in enumerate(exported.names) if "kernel_momentum" in name]
    assert all(np.abs(updated[exported.aliases[i] - 1]).max() > 0 for i in momenta)


def test_tracing_for_an_accelerator_ends_with_its_context():
    assert not execution.is_for_accelerator()
    with execution.traced_for_accelerator():
        assert execution.is_for_accelerator()
    assert not execution.is_for_accelerator()


@pytest.mark.nightly
def test_fit_under_xla_on_a_gpu_takes_the_measured_path(monkeypatch):
    """With a GPU, `fit` calls no CPU convolution and no parts for cores, as the exported steps."""
    model = hy.HybridModel(
        hy.flow_distribution(hy.bijectors.Glow((4, 4, 1), levels=2, steps=1, hidden_units=4, quantization_levels=16)),
        hy.heads.Categorical(2),
    )
    monkeypatch.setattr(convolution, "_convolution_and_bias", refuse)
    monkeypatch.setattr(tf, "split", refuse)  # of `parts_for_cores`
    visible = tf.config.get_visible_devices
    monkeypatch.setattr(
        tf.config, "get_visible_devices", lambda kind=None: ["a GPU"] if kind == "GPU" else visible(kind)
    )
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=True)
    x, y = np.random.default_rng(0).integers(0, 16, (8, 4, 4, 1)), np.arange(8) % 2
    history = model.fit(x, y, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
