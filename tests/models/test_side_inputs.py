"""Inputs as a dict, wherever a model takes inputs: the same answers, or a clear error."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from helpers import randomize, tiny_model, weights_of

import tfp_hybrid as hy
from tfp_hybrid import heads
from tfp_hybrid.uncertainty import (
    NegativeLogProb,
    Rejector,
    calibrate,
    conformal_interval,
    conformal_scores,
    decompose,
)
from tfp_hybrid.uncertainty.drift import DriftDetector
from tfp_hybrid.uncertainty.scores import (
    Aleatoric,
    Epistemic,
    GradientNorm,
    KNearest,
    LatentNorm,
    Typicality,
)

RNG = np.random.default_rng(0)
LEVELS = ["a", "b", "c", "d"]
N = 40


def case(strings=True, rows=N):
    """Inputs and responses with groups, a slope and an offset."""
    rng = np.random.default_rng(1)
    number = rng.integers(0, 4, rows)
    ids = np.array(LEVELS)[number] if strings else number * 10 + 3
    x = {
        "x": rng.normal(size=(rows, 2)).astype("float32"),
        "g": ids,
        "t": rng.normal(size=rows).astype("float32"),
        "o": rng.normal(size=rows).astype("float32"),
    }
    y = x["x"][:, 0] + number + np.array([1, -1, 2, 0])[number] * x["t"] + x["o"] + 0.1 * rng.normal(size=rows)
    return x, y.astype("float32")


def model_of(strings=True, head=None, **kwargs):
    levels = LEVELS if strings else [3, 13, 23, 33]
    head = heads.Normal() if head is None else head
    if head.location_predictor is not None:
        head = heads.Offset(head, "o")
    mixed = heads.MixedEffects(head, {"g": heads.Group(levels, slopes="t")}, train_size=N)
    return tiny_model(mixed, **kwargs)


def frame_of(x):
    columns = {"g": x["g"], "x0": x["x"][:, 0], "o": x["o"], "x1": x["x"][:, 1], "t": x["t"]}
    return pd.DataFrame({name: columns[name] for name in columns if name in ("x0", "x1") or name in x})


@pytest.fixture(scope="module")
def trained():
    model = model_of()
    x, y = case()
    model.fit(x, y, epochs=2, verbose=0)
    randomize(model.trainable_weights)
    return model


def test_latents_and_what_the_head_sees(trained):
    x, _ = case()
    x["g"][3] = "n"
    encoding = trained.encode(x)
    assert encoding.latents.shape == (N, 2) and encoding.features.shape == (N, 5)
    np.testing.assert_array_equal(encoding.features[:, :2], encoding.latents)
    numbers = [-1 if one == "n" else LEVELS.index(one) for one in x["g"]]
    np.testing.assert_array_equal(encoding.features[:, 2:], np.column_stack([x["o"], numbers, x["t"]]))
    part = encoding.rows(np.arange(N) % 2 == 0)
    np.testing.assert_array_equal(part.features, encoding.features[::2])
    np.testing.assert_array_equal(encoding.log_prob, trained.distribution.log_prob(x["x"]))


def test_answers_do_not_depend_on_how_rows_are_passed(trained):
    x, y = case()
    x["g"][:2] = "unseen"
    wanted = trained.predict(x, batch_size=16, verbose=0)
    p_y, log_p_x = trained.predict_distribution(x)
    np.testing.assert_allclose(p_y.mean(), wanted, rtol=1e-5)
    tensors = {name: tf.constant(one) for name, one in x.items()}
    batches = [{name: one[i : i + 16] for name, one in x.items()} for i in range(0, N, 16)]
    for given in (
        tensors,
        frame_of(x),
        x | {"x": frame_of(x)[["x0", "x1"]]},
        tf.data.Dataset.from_tensor_slices(x).batch(16),
        tf.data.Dataset.from_tensor_slices((x, y)).batch(16),
        (batch for batch in [(one,) for one in batches]),
    ):
        np.testing.assert_allclose(
            trained.predict(given, batch_size=16, verbose=0), wanted, rtol=1e-5, err_msg=type(given)
        )
    for given in (tensors, frame_of(x), tf.data.Dataset.from_tensor_slices((x, y)).batch(16)):
        found, log_prob = trained.predict_distribution(given, batch_size=16)
        np.testing.assert_allclose(found.stddev(), p_y.stddev(), rtol=1e-5)
        np.testing.assert_allclose(log_prob, log_p_x, rtol=1e-5)
        np.testing.assert_allclose(trained.log_prob(given), log_p_x, rtol=1e-5)
    np.testing.assert_allclose(trained(x), wanted, rtol=1e-5)
    np.testing.assert_allclose(trained.predict_on_batch(x), wanted, rtol=1e-5)
    order = RNG.permutation(N)
    np.testing.assert_allclose(
        trained.predict({name: one[order] for name, one in x.items()}, verbose=0), wanted[order], rtol=1e-5
    )
    interval = trained.predict_interval(x)
    assert (interval[0] < wanted).all() and (interval[1] > wanted).all()


def test_integers_and_strings_are_the_same_model():
    found = []
    for strings in (True, False):
        keras.utils.set_random_seed(0)
        model = model_of(strings)
        x, y = case(strings)
        model.fit(x, y, epochs=2, batch_size=16, verbose=0)
        hy.bayes.fit_effects(model, x, y)
        found.append(model.predict(x, verbose=0))
    np.testing.assert_array_equal(*found)


def test_training_is_the_same_from_arrays_data_sets_and_frames():
    found = []
    x, y = case()

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            part = slice(20 * i, 20 * i + 20)
            return {name: one[part] for name, one in x.items()}, y[part]

    for given in ("arrays", "data set", "frame", "sequence", "generator"):
        keras.utils.set_random_seed(0)
        model = model_of()
        model.adapt(x, y)
        if given == "arrays":
            model.fit(x, y, batch_size=20, shuffle=False, epochs=2, verbose=0)
        elif given == "data set":
            model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(20), epochs=2, verbose=0)
        elif given == "frame":
            model.fit(frame_of(x), y, batch_size=20, shuffle=False, epochs=2, verbose=0)
            assert model.feature_names == ("x0", "x1")
        elif given == "sequence":
            model.fit(Batches(), epochs=2, verbose=0, shuffle=False)
        else:
            sequence = Batches()
            model.fit((sequence[i % 2] for i in range(4)), steps_per_epoch=2, epochs=2, verbose=0)
        found.append(weights_of(model))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("how", ["xla", "eager"])
def test_compiled_and_eager_steps_are_those_of_graphs(how):
    found = []
    x, y = case()
    for options in ({"jit_compile": False}, {"jit_compile": True} if how == "xla" else {"run_eagerly": True}):
        keras.utils.set_random_seed(0)
        model = model_of(compile=False)
        model.compile(keras.optimizers.Adam(1e-2), **options)
        model.fit(x, y, batch_size=20, shuffle=False, epochs=2, verbose=0)
        found.append([*weights_of(model), model.predict(x, verbose=0)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_two_replicas_train_as_one():
    x, y = case()
    found = []
    for strategy in (
        tf.distribute.get_strategy(),
        tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()),
    ):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = model_of(optimizer=keras.optimizers.SGD(0.05))
        model.adapt(x, y)
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(20), verbose=0)
        found.append([*weights_of(model), model.predict(x, verbose=0)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_validation_weights_and_evaluation():
    x, y = case()
    model = model_of()
    history = model.fit(x, y, epochs=1, validation_split=0.25, sample_weight=np.ones(N), verbose=0).history
    held_out = {name: one[30:] for name, one in x.items()}
    found = model.evaluate(held_out, y[30:], verbose=0, return_dict=True)
    assert history["val_nll"][0] == pytest.approx(found["nll"], rel=1e-5)
    p_y, _ = model.predict_distribution(held_out)
    assert found["nll"] == pytest.approx(-float(np.mean(p_y.log_prob(y[30:]))), rel=1e-4)
    on_batch = model.test_on_batch(held_out, y[30:], return_dict=True)
    assert on_batch["nll"] == pytest.approx(found["nll"], rel=1e-4)
    model.train_on_batch(x, y)


def test_scores_read_the_latents_alone(trained):
    x, _ = case()
    other = x | {"g": np.full(N, "unseen"), "t": x["t"] + 100}
    for score in (NegativeLogProb(), KNearest(3), LatentNorm()):
        score.fit(trained, x)
        np.testing.assert_array_equal(
            score.score(trained, x), score.score(trained, other), err_msg=type(score).__name__
        )


def test_all_scores_take_dicts(trained):
    x, _ = case()
    for score in (Epistemic(), Aleatoric(), GradientNorm(), Typicality()):
        found = score.fit(trained, x).score(trained, x)
        assert found.shape == (N,) and np.isfinite(found).all(), score


def test_new_levels_are_less_certain(trained):
    x, _ = case()
    known, new = (decompose(trained, one).epistemic for one in (x, x | {"g": np.full(N, "unseen")}))
    assert new.mean() > known.mean()


def test_rejector_and_intervals_take_dicts():
    x, y = case()
    model = model_of()
    model.fit(x, y, epochs=1, verbose=0)
    spread = model.predict_distribution(x)[0].stddev()
    factor = calibrate(model, x, y)
    np.testing.assert_allclose(model.predict_distribution(x)[0].stddev(), factor * spread, rtol=1e-4)
    z = (y - model.predict(x, verbose=0)) / (factor * spread)
    assert np.mean(z**2) == pytest.approx(1, rel=1e-2)
    rejector = Rejector(model, NegativeLogProb()).fit_threshold(x, quantile=0.9)
    found = rejector.predict(x, verbose=0)
    np.testing.assert_allclose(found["prediction"], model.predict(x, verbose=0), rtol=1e-5)
    np.testing.assert_allclose(found["score"], -model.log_prob(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rejector(x)["score"], found["score"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rejector.predict_on_batch(x)["score"], found["score"], rtol=1e-4, atol=1e-4)
    interval = conformal_interval(model, x, conformal_scores(model, x, y), 0.9)
    assert ((y >= interval[0]) & (y <= interval[1])).mean() >= 0.9


def test_drift_is_told_by_dicts(trained):
    x, _ = case(rows=200)
    detector = DriftDetector(trained).fit(x)
    assert detector.test(x | {"x": x["x"] + 5}).drifted()


def test_missing_labels_and_side_inputs():
    x, y = case()
    y[::2] = np.nan
    model = model_of(missing_label=np.nan)
    model.fit(x, y, epochs=1, verbose=0)
    found = model.evaluate(x, y, verbose=0, return_dict=True)["nll"]
    known = {name: one[1::2] for name, one in x.items()}
    assert found == pytest.approx(model.evaluate(known, y[1::2], verbose=0, return_dict=True)["nll"], rel=1e-4)
    hy.bayes.fit_effects(model, x, y)


@pytest.mark.parametrize("cache", ["memory", "folder", None])
def test_features_of_an_encoder_are_cached_beside_side_inputs(cache, tmp_path):
    x, y = case()
    found = []
    for data in ("arrays", "data set"):
        keras.utils.set_random_seed(0)
        encoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        model = model_of(encoder=encoder)
        model.adapt(x, y)
        folder = tmp_path / data if cache == "folder" else cache
        given = (x, y) if data == "arrays" else (tf.data.Dataset.from_tensor_slices((x, y)).batch(20),)
        model.fit(*given, batch_size=20 if data == "arrays" else None, shuffle=False, epochs=2, cache=folder, verbose=0)
        found.append(model.predict(x, verbose=0))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


def test_encoder_is_trained_beside_side_inputs():
    x, y = case()
    encoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    before = encoder.get_weights()[0].copy()
    model = model_of(encoder=encoder, train_encoder=True)
    model.fit(x, y, epochs=1, verbose=0)
    assert (encoder.get_weights()[0] != before).all()


def test_classes_and_counts_have_groups():
    x, y = case()
    model = model_of(head=heads.Categorical(3))
    del x["o"]
    model.fit(x, (y > 0).astype(int), epochs=1, verbose=0)
    assert model.predict(x, verbose=0).shape == (N, 3)
    x, y = case()
    model = model_of(head=heads.ExponentialFamily("Poisson"))
    model.fit(x, np.round(np.abs(y)), epochs=1, verbose=0)
    interval = model.predict_interval(x)
    assert (interval == np.round(interval)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x["x"],
            r"x is a ndarray; wanted a dict of \['x', 'o', 'g', 't'\], since the model takes more than x",
        ),
        (lambda x: {"x": x["x"], "g": x["g"]}, r"x is a dict that lacks \['o', 't'\]; wanted"),
        (lambda x: x | {"h": x["g"]}, r"x is a dict that has \['h'\]; wanted"),
        (lambda x: x | {"g": x["g"][:5]}, "x: 'g' has 5 rows but x has 40; they must match"),
        (lambda x: x | {"g": np.where(np.arange(N) == 2, None, x["g"])}, r"x: 'g' is missing \(None\) in row 2"),
        (lambda x: x | {"t": np.full(N, np.nan)}, "x: 't' holds nan in row 0"),
        (lambda x: x | {"g": np.arange(N)}, "x: 'g' holds 0; wanted strings"),
        (lambda x: x | {"x": x["x"][:, :1]}, r"x has shape \(40, 1\); wanted \('n', 2\)"),
        (lambda x: frame_of(x).drop(columns="g"), r"x lacks the columns \['g'\]"),
        (lambda x: x | {"x": frame_of(x)}, r"x: x has the columns \['o', 'g', 't'\], which are side inputs"),
    ],
)
def test_inputs_that_are_refused(trained, change, message):
    x, y = case()
    before = weights_of(trained)
    given = change(x)
    for use in (
        lambda: trained.fit(given, y, verbose=0),
        lambda: trained.evaluate(given, y, verbose=0),
        lambda: trained.predict(given, verbose=0),
        lambda: trained.predict_distribution(given),
        lambda: trained.encode(given),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    for a, b in zip(before, weights_of(trained), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batch_with_missing_ids_is_named():
    x, y = case(strings=False)
    x["g"] = x["g"].astype(float)
    x["g"][25] = np.nan
    model = model_of(strings=False)
    with pytest.raises(
        ValueError, match=r"Batch 2 of the data set \(counting from 0\): x: 'g' is missing \(nan\) in row 5"
    ):
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(10), verbose=0)


def test_ids_of_nobody():
    x, y = case(rows=60)
    with pytest.raises(ValueError, match="x: 'g' holds no id that is a level; wanted those that its `Group` has"):
        model_of().fit(x | {"g": np.array([f"{one} " for one in x["g"]])}, y, verbose=0)


def test_a_few_rows_may_be_alike_by_chance():
    x, y = case(strings=False)
    x["x"][:4, 1] = x["g"][:4]
    model = model_of(strings=False)
    history = model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(4), epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all() and int(model.optimizer.iterations) == N // 4


def test_ids_in_x_by_mistake():
    x, y = case(strings=False, rows=60)
    x["x"][:, 1] = x["g"]
    with pytest.raises(ValueError, match="x: column 1 of x is the ids of 'g'; wanted them beside x alone"):
        model_of(strings=False).fit(x, y, verbose=0)


def test_models_of_x_alone_refuse_dicts():
    x, y = case()
    with pytest.raises(
        ValueError, match=r"x is a dict of \['g', 'o', 't', 'x'\]; wanted an array: the model takes x alone"
    ):
        tiny_model(heads.Normal()).fit(x, y, verbose=0)


@pytest.mark.parametrize("name", ["x", "cached_features"])
def test_names_that_are_taken(name):
    with pytest.raises(ValueError, match=f"`head` has a side input named '{name}'; wanted another name"):
        tiny_model(heads.Offset(heads.Normal(), name))


def test_what_takes_x_alone_refuses_the_model(trained):
    x, y = case()
    for use in (
        lambda: trained.sample(3),
        lambda: trained.joint,
        lambda: hy.uncertainty.attack.fgsm(trained, x, y, 0.1),
        lambda: hy.bayes.target_log_prob(trained, x, y, prior=1.0),
        lambda: hy.bayes.update(trained, x, y),
        lambda: hy.active.Variance().choose(trained, x, 3),
    ):
        with pytest.raises(ValueError, match=r"has the side inputs \['o', 'g', 't'\]; wanted a model of x alone"):
            use()
    with pytest.raises(ValueError, match="penalties` are given, but the model has the side inputs"):
        tiny_model(
            heads.Offset(heads.Bernoulli(), "o"), penalties=[hy.penalties.Consistency(lambda x, seed: x, weight=1.0)]
        )


def test_saved_models_go_on(tmp_path, trained):
    x, y = case()
    x["g"][:3] = "unseen"
    trained.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.side_inputs == trained.side_inputs
    np.testing.assert_array_equal(again.predict(x, verbose=0), trained.predict(x, verbose=0))
    np.testing.assert_array_equal(again.predict_interval(x), trained.predict_interval(x))
    x["g"][:3] = "a"
    found = []
    for model in (trained, again):
        model.fit(x, y, shuffle=False, epochs=1, verbose=0)
        found.append(weights_of(model))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
