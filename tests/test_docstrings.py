"""The examples in docstrings run, and print what they say."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid
from tfp_hybrid import DensityModel, HybridModel, bijectors, flow_distribution, heads

NAMES = dict(
    np=np, keras=keras, tf=tf, tfb=tfp.bijectors, tfd=tfp.distributions, bijectors=bijectors, heads=heads,
    flow_distribution=flow_distribution, ActNorm=bijectors.ActNorm, HybridModel=HybridModel, DensityModel=DensityModel,
)  # fmt: skip
MODULES = [module.name for module in pkgutil.walk_packages(tfp_hybrid.__path__, "tfp_hybrid.")]
EXAMPLES = {
    example.name: example
    for name in MODULES
    for example in doctest.DocTestFinder().find(importlib.import_module(name), extraglobs=NAMES)
    if example.examples
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name):
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(EXAMPLES[name])
    assert result.failed == 0


def test_there_are_examples():
    assert {"tfp_hybrid.models.hybrid_model.HybridModel", "tfp_hybrid.datasets.loading.load"} <= EXAMPLES.keys()
