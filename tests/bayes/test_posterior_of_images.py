"""Which part of the uncertainty rises for what no label could settle, and which for what was never seen."""

import keras
import numpy as np
import pytest

import tfp_hybrid as hy
from tfp_hybrid import bayes, datasets, heads, uncertainty
from tfp_hybrid.datasets import outliers


@pytest.mark.nightly
def test_mixes_of_digits_are_aleatoric_and_letters_epistemic(real_data):
    """MNIST, every second pixel; a mix is the mean of two digits, whose classes differ."""
    dataset = datasets.load("mnist", data_dir=real_data / "tfds")
    letters = outliers.load_outliers("not_mnist", dataset, real_data / "tfds")[0]
    (x, y), (digits, names) = dataset.train, dataset.test
    keras.utils.set_random_seed(0)
    flow = hy.bijectors.Glow((14, 14, 1), levels=1, steps=4, hidden_units=32, quantization_levels=256)
    model = hy.HybridModel(hy.flow_distribution(flow), heads.Categorical(10), generative_weight=0.1 / 196)
    model.compile(keras.optimizers.Adam(2e-3))
    small = [images[:, ::2, ::2] for images in (x[:10_000], digits, letters)]
    model.fit(small[0], y[:10_000], batch_size=64, epochs=6, verbose=0)
    bayes.fit(model, small[0], y[:10_000])
    asked = np.random.default_rng(0).permutation(len(digits))[:2000].reshape(2, 1000)
    asked = asked[:, names[asked[0]] != names[asked[1]]]
    mixes = (small[1][asked[0]].astype(int) + small[1][asked[1]]) // 2
    rows = {"digits": small[1][asked[0]], "mixes": mixes.astype("uint8"), "letters": small[2][:1000]}
    found = {name: uncertainty.decompose(model, images) for name, images in rows.items()}
    aleatoric, epistemic = ({name: part[i].mean() for name, part in found.items()} for i in (1, 2))
    error = np.mean(model.predict(rows["digits"], verbose=0).argmax(-1) != names[asked[0]])
    print(f"\nerror {error:.4f}; aleatoric {aleatoric}, epistemic {epistemic} nats")
    assert error < 0.05
    assert aleatoric["mixes"] > 3 * aleatoric["digits"]
    assert epistemic["letters"] > 5 * epistemic["digits"]
    share = {name: epistemic[name] / (aleatoric[name] + epistemic[name]) for name in rows}
    assert share["letters"] > share["mixes"]
