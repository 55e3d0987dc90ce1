"""Writes saved models of the current format, with the answers that they must give from then on.

    PYTHONPATH=tests python tests/golden/write.py

Existing files are never written again: what a release has saved must load in every later one. A new format, or a new
kind of model, adds files.
"""

import functools
import pathlib

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, randomize
from stock_flows import STOCK_FLOWS

import tfp_hybrid as hy
from tfp_hybrid import uncertainty
from tfp_hybrid.serialization import FORMAT

tfb, tfd = tfp.bijectors, tfp.distributions
FOLDER = pathlib.Path(__file__).parent
X, LABELS = blobs(16)


def on_real_nvp(head, **options):
    """A RealNVP of two features with random weights, and a head."""
    flow = hy.bijectors.RealNVP((2,), couplings=3, hidden_units=(4,))
    model = hy.HybridModel(hy.flow_distribution(flow), head, **options)
    randomize(model.trainable_weights)
    return model


def images(levels=4):
    return np.random.default_rng(0).integers(levels, size=(6, 4, 4, 1)).astype("uint8")


def glow(**options):
    flow = hy.bijectors.Glow((4, 4, 1), levels=2, steps=2, hidden_units=4, quantization_levels=4, **options)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(3), generative_weight=1 / 16)
    randomize(model.trainable_weights)
    return model


def real_nvp_of_images():
    flow = hy.bijectors.RealNVP((4, 4, 1), couplings=2, levels=1, hidden_units=4, quantization_levels=4, additive=True)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(3))
    randomize(model.trainable_weights)
    return model


def density():
    flow = hy.bijectors.RealNVP((2,), couplings=3, hidden_units=(4,))
    model = hy.DensityModel(hy.flow_distribution(flow))
    randomize(model.trainable_weights)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(X, verbose=0)
    return model


def spline_couplings():
    network = functools.partial(hy.networks.MLP, hidden_units=(4,))
    couplings = [hy.bijectors.SplineCoupling((2,), swap=swap, bins=4, conditioner=network) for swap in (False, True)]
    affine = hy.bijectors.Coupling((2,), hy.bijectors.transformers.Affine(1.0), conditioner=network)
    flow = hy.bijectors.FusedChain([*couplings, affine], (2,))
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2))
    randomize(model.trainable_weights)
    return model


def background():
    flow = hy.bijectors.integer_preprocessing((4, 4, 1), 4)[:1] + [hy.bijectors.Background((4, 4, 1))]
    flow += hy.bijectors.Glow((4, 4, 1), levels=1, steps=1, hidden_units=4, quantization_levels=None).bijectors
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.FusedChain(flow, (4, 4, 1))))
    randomize(model.trainable_weights)
    return model


def stock(name):
    model = hy.HybridModel(STOCK_FLOWS[name](), hy.heads.Categorical(2))
    randomize(model.trainable_weights)
    return model


def trained():
    """Compiled and trained for a step, with every setting away from its default."""
    keras.utils.set_random_seed(1)
    dropout = lambda shape, units: hy.networks.MLP(shape, units, (4,), dropout=0.1, kernel_regularizer="l2")  # noqa: E731
    flow = hy.bijectors.FusedChain(
        [
            hy.bijectors.ActNorm((2,)),
            hy.bijectors.AffineCoupling((2,), swap=True, conditioner=dropout, log_scale_bound=1.5),
            hy.bijectors.InvertibleLinear((2,)),
            hy.bijectors.Spline((2,), bins=4),
            tfb.Shift(tf.Variable([0.1, -0.2], name="shift")),
        ],
        (2,),
    )
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)
    head = hy.heads.Categorical(2, kernel_regularizer="l2", weight_stddev=0.1)
    model = hy.HybridModel(hy.flow_distribution(flow), head, schedule, "jacobian", name="trained")
    model.feature_names = ["width", "height"]
    model.compile(keras.optimizers.Adam(1e-2), metrics=["accuracy"])
    model.fit(X, LABELS, verbose=0)
    return model


def shared():
    """A variable that p(x) and the head share."""
    scale = tf.Variable(1.5, name="scale")
    latent = tfd.Independent(tfd.Normal([0.0, 0.0], scale), 1)
    head = hy.heads.ExponentialFamily(tfp.glm.NegativeBinomial(total_count=scale))
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(4,))
    model = hy.HybridModel(hy.flow_distribution(flow, latent), head)
    randomize(model.trainable_weights)
    return model


def table():
    """Columns of every kind, with holes."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "height": np.where(rng.random(60) < 0.2, np.nan, rng.normal(170, 10, 60)),
            "rooms": rng.integers(1, 6, 60),
            "rate": rng.uniform(0.1, 0.9, 60),
            "plan": rng.choice(["basic", "gold"], 60),
            "weekday": rng.integers(0, 7, 60),
            "DepTime": 100 * rng.integers(0, 24, 60) + 30,
            "since": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 90, 60), unit="D"),
        }
    )
    return frame, hy.tables.Columns.from_frame(frame, {"rate": hy.tables.Number(lower=0, upper=1)})


def of_table():
    columns = table()[1]
    inner = hy.bijectors.RealNVP(columns.latent_shape[0], couplings=2, hidden_units=4)
    flow = hy.bijectors.FusedChain([columns, inner], columns.event_shape)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2))
    randomize(model.trainable_weights)
    return model


def rows_of_table():
    frame, columns = table()
    return columns.to_array(frame)[:16]


def with_posterior(head, structure="auto"):
    model = on_real_nvp(head)
    y = LABELS if model.head.classifies else X[:, 0] + 3
    y = np.stack([y] * 3, 1) if model.head.event_shape else y
    hy.bayes.fit(model, X, y, prior=0.5, structure=structure)
    return model


def rejector(score):
    model = on_real_nvp(hy.heads.Categorical(2))
    score = score.fit(model, X) if score.needs_fit else score
    return uncertainty.Rejector(model, score).fit_threshold(X, quantile=0.9)


def trained_background():
    return uncertainty.LikelihoodRatio(mutation_rate=0.3, epochs=1)


def likelihood_ratio():
    return uncertainty.LikelihoodRatio(background=on_real_nvp(hy.heads.Categorical(2), name="background"))


def variational(head, structure):
    return on_real_nvp(hy.heads.Variational(head, train_size=16, structure=structure))


FAMILIES = {
    "poisson": "Poisson",
    "gamma": "GammaExp",
    "negative_binomial": tfp.glm.NegativeBinomial(total_count=5.0),
}
MODELS = {
    "glow": (glow, images),
    "glow_recompute": (lambda: glow(recompute=True), images),
    "real_nvp": (lambda: on_real_nvp(hy.heads.Categorical(2)), lambda: X),
    "real_nvp_of_images": (real_nvp_of_images, images),
    "spline_couplings": (spline_couplings, lambda: X),
    "trained": (trained, lambda: X),
    "density": (density, lambda: X),
    "background": (background, images),
    "shared": (shared, lambda: X),
    "table": (of_table, rows_of_table),
    **{f"stock_{name}": (lambda name=name: stock(name), lambda: X) for name in ("real_nvp", "maf", "spline")},
    "head_bernoulli": (lambda: on_real_nvp(hy.heads.Bernoulli((3,))), lambda: X),
    "head_normal": (lambda: on_real_nvp(hy.heads.Normal()), lambda: X),
    "head_heteroscedastic_normal": (lambda: on_real_nvp(hy.heads.HeteroscedasticNormal((2,))), lambda: X),
    "head_normal_mixture": (lambda: on_real_nvp(hy.heads.NormalMixture(3)), lambda: X),
    **{
        f"head_{name}": (lambda family=family: on_real_nvp(hy.heads.ExponentialFamily(family)), lambda: X)
        for name, family in FAMILIES.items()
    },
    "posterior_exact": (lambda: with_posterior(hy.heads.Normal()), lambda: X),
    "posterior_full": (lambda: with_posterior(hy.heads.HeteroscedasticNormal()), lambda: X),
    "posterior_kronecker": (lambda: with_posterior(hy.heads.Categorical(2), "kronecker"), lambda: X),
    "posterior_diagonal": (lambda: with_posterior(hy.heads.Bernoulli(), "diagonal"), lambda: X),
    "posterior_blocks": (lambda: with_posterior(hy.heads.Bernoulli((3,)), "blocks"), lambda: X),
    "head_partly_observed": (lambda: on_real_nvp(hy.heads.PartlyObserved(hy.heads.Normal((2,)))), lambda: X),
    "head_variational_full": (lambda: variational(hy.heads.Categorical(3), "full"), lambda: X),
    "head_variational_kronecker": (lambda: variational(hy.heads.Normal((3,)), "kronecker"), lambda: X),
    "rejector": (lambda: rejector(uncertainty.Typicality()), lambda: X),
    "rejector_likelihood_ratio": (lambda: rejector(likelihood_ratio()), lambda: X),
    "rejector_trained_background": (lambda: rejector(trained_background()), lambda: X),
    "rejector_waic": (
        lambda: rejector(uncertainty.WAIC([on_real_nvp(hy.heads.Categorical(2), name="other")])),
        lambda: X,
    ),
}


def answers(model, x) -> dict[str, np.ndarray]:
    """What a model or a rejector answers to x."""
    if isinstance(model, uncertainty.Rejector):
        return model.predict(x, verbose=0)
    found = {"prediction": model.predict(x, verbose=0), "log_prob": model.log_prob(x)}
    if model.head is not None:
        y = np.zeros((len(x), *model.head.event_shape), "int32") + 1
        found["log_prob_y"] = model.encode(x).p_y.log_prob(model.head.prepare_labels(y)).numpy()
    if model.compiled:
        found["iterations"] = np.asarray(model.optimizer.iterations)
    return found


def main():
    for name, (make, inputs) in MODELS.items():
        file = FOLDER / f"format_{FORMAT}_{name}.keras"
        if file.exists():
            continue
        keras.utils.set_random_seed(0)
        model, x = make(), inputs()
        model.save(file)
        np.savez(file.with_suffix(".npz"), x=x, **answers(model, x))
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
