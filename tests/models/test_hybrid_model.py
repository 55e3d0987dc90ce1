"""HybridModel: its maths, against formulas that do not go through it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, counted, integer_model, mvn_log_prob, normal, randomize, tiny_model, weights_of

import tfp_hybrid as hy
from tfp_hybrid.bijectors import ActNorm, AffineCoupling, FusedBijector, FusedChain, InvertibleLinear, Steps

tfb, tfd = tfp.bijectors, tfp.distributions


def gradients_of_a_step(model, x, y, **kwargs):
    """What one training step with plain gradient descent takes off the trainable weights."""
    model.compile(keras.optimizers.SGD(1.0))
    before = [weight.numpy() for weight in model.trainable_weights]
    model.fit(x, y, batch_size=len(x), shuffle=False, verbose=0, **kwargs)
    return [old - weight.numpy() for old, weight in zip(before, model.trainable_weights, strict=True)]


def assert_same(got, wanted, tolerance=1e-5):
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, 0.0 if other is None else other, rtol=tolerance, atol=tolerance)


def autodiff(function, weights):
    with tf.GradientTape() as tape:
        loss = function()
    return tape.gradient(loss, [weight.value for weight in weights])


def test_lambda_zero_is_the_plain_classifier():
    model = tiny_model(generative_weight=0)
    x, y = blobs()

    def cross_entropy():
        logits = model.flow.inverse(tf.constant(x)) @ model.head.kernel + model.head.bias
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))

    wanted = autodiff(cross_entropy, model.trainable_weights)
    assert_same(gradients_of_a_step(model, x, y), wanted)
    assert "log_prob_x" not in model.fit(x, y, verbose=0).history


class NotingLogDet(FusedBijector):
    """The identity; its log-det, zero, notes that it is computed."""

    def __init__(self, note, event_shape, name="noting_log_det"):
        super().__init__(event_shape, parameters=dict(locals()), name=name)
        self._note = note

    def _inverse_and_log_det(self, x, training=False):
        @tf.custom_gradient
        def log_det(x):
            zeros = tf.numpy_function(self._note, [x], x.dtype, stateful=False)  # may be pruned
            return tf.ensure_shape(zeros, x.shape[:1]), lambda _: tf.zeros_like(x)

        return tf.identity(x), log_det(x)


@pytest.mark.integration  # TensorFlow's optimizer leaves out what no one asks for
@pytest.mark.parametrize("in_steps", [False, True])
@pytest.mark.parametrize("weight", [0, 0.5])
def test_lambda_zero_computes_no_log_det(weight, in_steps):
    computed = []

    def step():
        noting = NotingLogDet(lambda x: computed.append(1) or np.zeros(len(x), x.dtype), (2,))
        return FusedChain([noting, AffineCoupling((2,))], (2,))

    flow = Steps(step, 3, (2,)) if in_steps else step()
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2), generative_weight=weight)
    model.compile(keras.optimizers.SGD(1e-3))
    x, y = blobs()
    model.fit(x, y, batch_size=len(x), verbose=0)
    computed.clear()
    model.fit(x, y, batch_size=len(x), verbose=0)
    assert len(computed) == (0 if weight == 0 else 3 if in_steps else 1)


def test_constant_head_and_lambda_one_is_the_plain_flow():
    model = tiny_model()
    model.head.kernel.assign(tf.zeros_like(model.head.kernel))
    model.head.trainable = False
    x, y = blobs()
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2)), model.flow)
    wanted = autodiff(lambda: -tf.reduce_mean(p_x.log_prob(x)), model.trainable_weights)
    assert len(wanted) == len(model.density.trainable_weights)
    assert_same(gradients_of_a_step(model, x, y), wanted)


@pytest.mark.parametrize("weight", [0.3, 2.0, lambda step: 0.3 + 0.1 * tf.cast(step, tf.float32)])
def test_gradients_are_those_of_eq_5(weight):
    model = tiny_model(generative_weight=weight)
    x, y = blobs()

    def objective():
        log_prob_y = model.head(model.flow.inverse(tf.constant(x))).log_prob(y)
        return -tf.reduce_mean(log_prob_y + (0.3 if callable(weight) else weight) * model.distribution.log_prob(x))

    wanted = autodiff(objective, model.trainable_weights)
    assert_same(gradients_of_a_step(model, x, y), wanted)


def test_schedule_follows_the_optimizers_step():
    x, y = blobs()
    model = tiny_model(generative_weight=keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.0, 1.0]))
    model.compile(keras.optimizers.SGD(0.0))
    loss = model.fit(x, y, batch_size=64, epochs=5, verbose=0).history["loss"]
    nll = -model.predict_distribution(x)[0].log_prob(y).numpy().mean()
    np.testing.assert_allclose(loss, nll - np.array([0, 0, 0, 1, 1]) * model.log_prob(x).mean(), rtol=1e-5)


@pytest.mark.integration
def test_jacobian_weighting_has_the_gradients_of_eq_5():
    """Nalisnick et al. 2019: a Gaussian latent of variance 1/lambda, and only the Jacobian down-weighted."""
    x, y = blobs()
    weight = 0.2
    density = tiny_model(generative_weight=weight)
    scaled = tfd.MultivariateNormalDiag(tf.zeros(2), tf.fill(2, weight**-0.5))
    jacobian = hy.HybridModel(
        hy.flow_distribution(density.flow, scaled), density.head, generative_weight=weight, weighting="jacobian"
    )
    start = weights_of(density)
    wanted = gradients_of_a_step(density, x, y)
    density.set_weights(start)
    assert_same(gradients_of_a_step(jacobian, x, y), wanted)


def test_regularizers_add_to_the_loss():
    """L2(1 / (2 N s^2)) on the kernel: the log density of a Gaussian prior on it, divided by N."""
    x, y = blobs()
    s, rows = 0.5, len(x)
    head = hy.heads.Categorical(2, kernel_regularizer=keras.regularizers.L2(1 / (2 * rows * s**2)))
    model = tiny_model(head)
    results = model.evaluate(x, y, return_dict=True, verbose=0)
    log_prior = tfd.Normal(0.0, s).log_prob(model.head.kernel) - tfd.Normal(0.0, s).log_prob(0.0)
    wanted = results["nll"] - results["log_prob_x"] - tf.reduce_sum(log_prior) / rows
    np.testing.assert_allclose(results["loss"], wanted, rtol=1e-5)
    assert abs(tf.reduce_sum(log_prior)) / rows > 1e-4

    conditioner = lambda shape, units: hy.networks.MLP(shape, units, (8,), kernel_regularizer="l2")  # noqa: E731
    model = hy.HybridModel(
        hy.flow_distribution(hy.bijectors.RealNVP((2,), couplings=5, conditioner=conditioner)), hy.heads.Categorical(2)
    )
    randomize(model.trainable_weights)
    kernels = [weight for weight in model.density.weights if "kernel" in weight.path]
    assert sum(np.prod(kernel.shape) for kernel in kernels) == 5 * (1 * 8 + 8 * 2)
    np.testing.assert_allclose(sum(model.losses), 0.01 * sum(tf.reduce_sum(kernel**2) for kernel in kernels), rtol=1e-5)


def gaussian_problem(rows=200):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, 3)) + [1.0, -2.0, 0.5]
    y = x @ [1.0, -0.5, 2.0] + 0.3 + 0.7 * rng.normal(size=rows)
    return x.astype("float32"), y.astype("float32")


@pytest.mark.parametrize("kind", ["ours", "stock"])
def test_fit_reaches_the_closed_form_maximum_likelihood(kind):
    x, y = gaussian_problem()
    if kind == "ours":
        p_x = hy.flow_distribution(FusedChain([ActNorm((3,)), InvertibleLinear((3,))], (3,)))
    else:
        lu = tfb.ScaleMatvecLU(tf.Variable(tf.linalg.lu(tf.eye(3))[0]), tf.range(3))
        flow = tfb.Chain([tfb.Shift(tf.Variable(tf.zeros(3))), lu])
        p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(3)), flow)
    model = hy.HybridModel(p_x, hy.heads.Normal())
    rate = keras.optimizers.schedules.CosineDecay(0.1, 1000)
    model.compile(keras.optimizers.Adam(rate), steps_per_execution=100)
    rows = tf.data.Dataset.from_tensors((x, y)).cache().repeat()
    model.fit(rows, steps_per_epoch=1000, verbose=0)

    covariance = np.cov(x.T, bias=True)
    best_x = mvn_log_prob(x, x.mean(0), covariance).mean()
    design = np.column_stack([x, np.ones(len(x))])
    residual = y - design @ np.linalg.lstsq(design, y)[0]
    best_y = -0.5 * (np.log(2 * np.pi * np.mean(residual**2)) + 1)
    results = model.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(results["log_prob_x"], best_x, rtol=0.01)
    np.testing.assert_allclose(-results["loss"], best_x + best_y, rtol=0.01)
    np.testing.assert_allclose(model.log_prob(x), mvn_log_prob(x, x.mean(0), covariance), atol=0.3)


def test_evaluate_reports_formulas():
    model = tiny_model(generative_weight=0.3)
    model.compile(metrics=["sparse_categorical_crossentropy"])
    x, y = blobs()
    p_y, log_prob = model.predict_distribution(x)
    results = model.evaluate(x, y, batch_size=10, return_dict=True, verbose=0)
    nll = -p_y.log_prob(y).numpy().mean()
    wanted = {
        "nll": nll,
        "sparse_categorical_crossentropy": nll,
        "log_prob_x": model.distribution.log_prob(x).numpy().mean(),
        "loss": nll - 0.3 * log_prob.mean(),
        "accuracy": np.mean(np.argmax(p_y.logits_parameter(), -1) == y),
    }
    assert set(results) == set(wanted)
    for key, value in wanted.items():
        np.testing.assert_allclose(results[key], value, rtol=1e-5, err_msg=key)


def test_regression_reports_the_rmse():
    x, _ = blobs()
    y = x.sum(1)
    model = tiny_model(hy.heads.Normal())
    results = model.evaluate(x, y, return_dict=True, verbose=0)
    np.testing.assert_allclose(results["rmse"], np.sqrt(np.mean((model.predict(x, verbose=0) - y) ** 2)), rtol=1e-5)


@pytest.mark.integration
def test_bits_per_dim_of_images():
    model = integer_model()
    rng = np.random.default_rng(0)
    x, y = rng.integers(4, size=(12, 4, 4, 1), dtype="uint8"), rng.integers(3, size=12)
    results = model.evaluate(x, y, return_dict=True, verbose=0)
    assert set(results) == {"loss", "nll", "log_prob_x", "bits_per_dim", "accuracy"}
    log_prob = model.distribution.log_prob(x.astype("float32")).numpy()
    np.testing.assert_allclose(results["bits_per_dim"], -log_prob.mean() / (16 * np.log(2)), rtol=1e-5)
    np.testing.assert_allclose(model.log_prob(x), log_prob, rtol=1e-4)
    np.testing.assert_allclose(model.log_prob(x[::-1], batch_size=5), log_prob[::-1], rtol=1e-4)
    draws = model.sample(3, seed=0)
    assert draws["x"].shape == (3, 4, 4, 1) and draws["y"].shape == (3,)
    history = model.fit(x, y, verbose=0).history
    assert {"bits_per_dim", "log_prob_x"} <= set(history)


HEADS = {
    "categorical": (lambda: hy.heads.Categorical(3), (3,), ()),
    "bernoulli": (lambda: hy.heads.Bernoulli(), (), ()),
    "normal": (lambda: hy.heads.Normal(), (), ()),
    "normal_vector": (lambda: hy.heads.Normal(2), (2,), (2,)),
    "heteroscedastic": (lambda: hy.heads.HeteroscedasticNormal(2), (2,), (2,)),
    "poisson": (lambda: hy.heads.ExponentialFamily("Poisson"), (), ()),
}


@pytest.mark.parametrize("name", HEADS)
def test_inference_agrees_with_its_parts(name):
    make, mean_shape, event_shape = HEADS[name]
    model = tiny_model(make())
    x, _ = blobs(10)
    p_y, log_prob = model.predict_distribution(x, batch_size=4)
    assert log_prob.shape == (10,) and p_y.batch_shape == (10,) and p_y.event_shape == event_shape
    z = model.flow.inverse(tf.constant(x)).numpy()
    jacobian = model.flow.inverse_log_det_jacobian(tf.constant(x), event_ndims=1).numpy()
    np.testing.assert_allclose(log_prob, -0.5 * (z**2).sum(1) - np.log(2 * np.pi) + jacobian, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.log_prob(x), log_prob, rtol=1e-5)
    np.testing.assert_allclose(model.log_prob(tf.data.Dataset.from_tensor_slices(x).batch(3)), log_prob, rtol=1e-5)
    predicted = model.predict(x, verbose=0)
    assert predicted.shape == (10, *mean_shape)
    mean = p_y.probs_parameter() if name == "categorical" else p_y.mean()
    np.testing.assert_allclose(predicted, mean, rtol=1e-5)

    draws = model.sample(7, seed=1)
    assert draws["x"].shape == (7, 2) and draws["y"].shape == (7, *event_shape)
    y = draws["y"][:1].numpy().repeat(10, 0)
    wanted = log_prob + p_y.log_prob(y).numpy()
    np.testing.assert_allclose(model.joint.log_prob(x=x, y=y), wanted, rtol=1e-4, atol=1e-5)
    assert isinstance(model.joint, tfd.JointDistribution)


def test_samples_of_the_joint_follow_the_conditional():
    """Of the y drawn with x, as many are 1 as p(y=1|x) says."""
    model = tiny_model(hy.heads.Bernoulli())
    draws = model.sample(4000, seed=3)
    p = model.predict(draws["x"].numpy(), verbose=0)
    low = p < np.median(p)
    y = draws["y"].numpy()
    for part in (low, ~low):
        assert abs(y[part].mean() - p[part].mean()) < 4 * 0.5 / np.sqrt(part.sum())
    assert p[~low].mean() - p[low].mean() > 0.02


FLOWS_OF_THREE = {
    "chain": lambda conditioner: FusedChain(
        [AffineCoupling((2,), swap=swap, conditioner=conditioner) for swap in (False, True, False)], (2,)
    ),
    "builder": lambda conditioner: hy.bijectors.RealNVP((2,), couplings=3, conditioner=conditioner),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", FLOWS_OF_THREE)
@pytest.mark.parametrize("run_eagerly", [True, False])
def test_one_pass_a_step(name, run_eagerly):
    """Loss, log p(x) and p(y|x) together evaluate each conditioner once."""
    conditioner, executions = counted(hidden_units=(8,))
    model = hy.HybridModel(hy.flow_distribution(FLOWS_OF_THREE[name](conditioner)), hy.heads.Categorical(2))
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=run_eagerly, jit_compile=False)
    x, y = blobs(32)
    model.adapt(x)

    def executed(function):
        executions.clear()
        function()
        return [executions[i] for i in range(3)]

    assert executed(lambda: model.fit(x, y, batch_size=8, verbose=0)) == [4, 4, 4]
    assert executed(lambda: model.evaluate(x, y, batch_size=8, verbose=0)) == [4, 4, 4]
    assert executed(lambda: model.train_step((tf.constant(x), tf.constant(y)))) == [1, 1, 1]
    assert executed(lambda: model.test_step((tf.constant(x), tf.constant(y)))) == [1, 1, 1]
    assert executed(lambda: model.encode(tf.constant(x))) == [1, 1, 1]
    assert executed(lambda: model.encode(tf.constant(x), training=True)) == [1, 1, 1]
    assert executed(lambda: model.distribution.log_prob(tf.constant(x))) == [1, 1, 1]


@pytest.mark.integration
def test_adapt_standardizes_and_fit_adapts_only_once():
    x = np.random.default_rng(0).normal(size=(300, 3)).astype("float32") * [1, 20, 0.1] + [3, -5, 100]
    y = np.arange(300) % 2

    def model():
        flow = hy.bijectors.RealNVP((3,), couplings=2, hidden_units=(8,))
        made = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2))
        made.compile(keras.optimizers.SGD(0.0))
        return made

    by_hand, by_fit = model(), model()
    by_hand.adapt(x)
    z = by_hand.flow.inverse(tf.constant(x, tf.float32)).numpy()
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-3)
    by_fit.fit(x, y, batch_size=300, verbose=0)
    np.testing.assert_allclose(by_fit.flow.inverse(tf.constant(x, tf.float32)), z, atol=1e-3)
    by_hand.fit(2 * x, y, verbose=0)
    np.testing.assert_allclose(by_hand.flow.inverse(tf.constant(x, tf.float32)), z, atol=1e-6)


def test_training_reports_and_trains_with_dropout():
    conditioner = lambda shape, units: hy.networks.MLP(shape, units, (16,), dropout=0.5)  # noqa: E731
    model = hy.HybridModel(
        hy.flow_distribution(hy.bijectors.RealNVP((2,), couplings=2, conditioner=conditioner)), hy.heads.Categorical(2)
    )
    randomize(model.trainable_weights, scale=0.5)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x, y = blobs()
    losses = [model.train_on_batch(x, y, return_dict=True)["loss"] for _ in range(2)]
    model.reset_metrics()
    calm = [model.evaluate(x, y, return_dict=True, verbose=0)["loss"] for _ in range(2)]
    assert calm[0] == calm[1] and len({*losses, calm[0]}) == 3


def test_summary_counts_all_weights():
    lines = []
    model = tiny_model(couplings=2)
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    # A coupling of (2,): a network 1 -> 8 -> 2, an ActNorm of 4; the head 2 x 2 + 2.
    assert model.count_params() == 2 * (16 + 18 + 4) + 6
    assert "density" in text and "categorical" in text and "Trainable params: 82" in text.split("\n ", 1)[1]


def test_latent_of_images_is_flattened_for_the_head():
    flow = tfb.Chain([tfb.Shift(tf.Variable(normal(2, 3)))])
    model = hy.HybridModel(
        tfd.TransformedDistribution(tfd.Independent(tfd.Normal(tf.zeros((2, 3)), 1.0), 2), flow),
        hy.heads.Normal(kernel_initializer="ones"),
    )
    x = normal(5, 2, 3)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), np.sum(x - flow.bijectors[0].shift, axis=(1, 2)), rtol=1e-4, atol=1e-5
    )


def test_rich_latent():
    """A flow as another's base: the head stays on the first one's z (the paper's footnote 4)."""
    inner = hy.flow_distribution(hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,)))
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    model = hy.HybridModel(hy.flow_distribution(flow, inner), hy.heads.Categorical(2))
    randomize(model.trainable_weights)
    x, _ = blobs(5)
    encoding = model.encode(x)
    np.testing.assert_allclose(encoding.z, flow.inverse(tf.constant(x)), rtol=1e-5)
    chain = tfd.TransformedDistribution(inner.distribution, tfb.Chain([flow, inner.bijector]))
    np.testing.assert_allclose(encoding.log_prob, chain.log_prob(x), rtol=1e-4)
    assert len(model.density.trainable_weights) == 2 * 2 * (4 + 2)
