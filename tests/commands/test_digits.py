import json

import keras
import numpy as np
import pytest

from tfp_hybrid import datasets, recipes
from tfp_hybrid.commands import checkpoint, train


def test_the_seed_fixes_the_augmented_batches():
    dataset = datasets.load("digits")
    recipe = recipes.recipe_for(dataset)

    def first_batches(seed):
        keras.utils.set_random_seed(seed)
        data = checkpoint.epoch_batches(dataset.train, recipe.batch_size, seed, lambda: 0, recipe.augment)
        return np.stack([x for x, _ in data.take(3)])

    np.testing.assert_array_equal(first_batches(0), first_batches(0))
    assert (first_batches(0) != first_batches(1)).any()


@pytest.mark.nightly
def test_the_default_run_is_a_good_classifier_and_a_good_density(tmp_path):
    """At most 5 % error on the digits of other writers, and at most 2.90 bits/dim, with one model."""
    train("digits", tmp_path / "digits")
    metrics = json.loads((tmp_path / "digits" / "metrics.json").read_text())
    assert metrics["test"]["error"] <= 0.05
    assert metrics["test"]["bits_per_dim"] <= 2.90
    assert metrics["test"]["bits_per_dim"] == pytest.approx(-metrics["test"]["log_prob_x"] / (64 * np.log(2)))
    assert all(row["auroc"] > 0.99 for row in metrics["ood"].values())
