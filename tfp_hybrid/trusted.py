"""The classes and functions of TFP and Keras that a saved model may name.

A `.keras` file may come from an untrusted source. In Keras' safe mode it holds no code, but it names classes, which
loading instantiates, and functions, which may be called: `tfb.Inline` calls any function that it receives, and Keras
would look up `keras.config.set_epsilon` for it. Therefore a file may name only what is listed here, defined by this
package, or registered by `keras.saving.register_keras_serializable`. The listed classes take only numbers, one another,
Keras layers and the listed functions as arguments.
"""

import functools
import inspect

import keras
import tensorflow_probability as tfp

from tfp_hybrid import _compat, registry

KIND = "tfp_hybrid_kind"
"""The key that marks dictionaries written by `tfp_hybrid.serialization`."""

MAX_DEPTH, MAX_VALUES = 128, 2**24
"""The largest nesting depth of a configuration, and its largest number of values; shared values count at each use."""

_LISTED = {
    "tfp.bijectors": (
        tfp.bijectors,
        """AbsoluteValue Ascending Blockwise Chain CholeskyOuterProduct CholeskyToInvCholesky
        CorrelationCholesky Cumsum DiscreteCosineTransform Exp Expm1 FFJORD FillScaleTriL FillTriangular
        FrechetCDF GeneralizedExtremeValueCDF GeneralizedPareto Glow GompertzCDF GumbelCDF Householder Identity
        Inline Invert IteratedSigmoidCentered JointMap KumaraswamyCDF LambertWTail Log Log1p
        MaskedAutoregressiveFlow MatrixInverseTriL MatvecLU MoyalCDF NormalCDF Pad Permute Power PowerTransform
        RationalQuadraticSpline RayleighCDF RealNVP Reciprocal Reshape Restructure Scale ScaleMatvecDiag
        ScaleMatvecLU ScaleMatvecTriL Shift ShiftedGompertzCDF Sigmoid Sinh SinhArcsinh SoftClip Softfloor
        SoftmaxCentered Softplus Softsign Split Square Tanh TransformDiagonal Transpose UnitVector
        WeibullCDF""",
    ),
    "tfp.distributions": (
        tfp.distributions,
        """Autoregressive BatchBroadcast BatchConcat BatchReshape Bates Bernoulli Beta BetaBinomial BetaQuotient
        Binomial Blockwise Categorical Cauchy Chi Chi2 CholeskyLKJ ContinuousBernoulli DeterminantalPointProcess
        Deterministic Dirichlet DirichletMultinomial DoublesidedMaxwell Empirical ExpGamma ExpInverseGamma
        ExpRelaxedOneHotCategorical Exponential ExponentiallyModifiedGaussian FiniteDiscrete FlatDirichlet Gamma
        GammaGamma GaussianProcess GaussianProcessRegressionModel GeneralizedExtremeValue GeneralizedNormal
        GeneralizedPareto Geometric Gumbel HalfCauchy HalfNormal HalfStudentT HiddenMarkovModel Horseshoe
        Independent Inflated InverseGamma InverseGaussian JohnsonSU Kumaraswamy LKJ LambertWDistribution
        LambertWNormal Laplace LinearGaussianStateSpaceModel LogLogistic LogNormal Logistic LogitNormal
        MarkovChain Masked MatrixNormalLinearOperator MatrixTLinearOperator Mixture MixtureSameFamily Moyal
        Multinomial MultivariateNormalDiag MultivariateNormalDiagPlusLowRank
        MultivariateNormalDiagPlusLowRankCovariance MultivariateNormalFullCovariance
        MultivariateNormalLinearOperator MultivariateNormalTriL MultivariateStudentTLinearOperator
        NegativeBinomial NoncentralChi2 Normal NormalInverseGaussian OneHotCategorical OrderedLogistic PERT
        Pareto PlackettLuce Poisson PoissonLogNormalQuadratureCompound PowerSpherical ProbitBernoulli
        QuantizedDistribution RelaxedBernoulli RelaxedOneHotCategorical Sample SigmoidBeta SinhArcsinh Skellam
        SphericalUniform StoppingRatioLogistic StudentT StudentTProcess StudentTProcessRegressionModel
        TransformedDistribution Triangular TruncatedCauchy TruncatedNormal TwoPieceNormal TwoPieceStudentT
        Uniform VariationalGaussianProcess VectorDeterministic VonMises VonMisesFisher Weibull
        WishartLinearOperator WishartTriL ZeroInflatedNegativeBinomial Zipf""",
    ),
    "tfp.glm": (
        tfp.glm,
        """Bernoulli BernoulliNormalCDF Binomial CustomExponentialFamily GammaExp GammaSoftplus LogNormal
        LogNormalSoftplus NegativeBinomial NegativeBinomialSoftplus Normal NormalReciprocal Poisson
        PoissonSoftplus""",
    ),
    "tfp.math.psd_kernels": (
        tfp.math.psd_kernels,
        """ChangePoint Constant ExpSinSquared ExponentialCurve ExponentiatedQuadratic FeatureScaled
        FeatureTransformed GammaExponential GeneralizedMatern KumaraswamyTransformed Linear MaternFiveHalves
        MaternOneHalf MaternThreeHalves Parabolic PointwiseExponential Polynomial RationalQuadratic
        SchurComplement SpectralMixture""",
    ),
}
_MODULES = {prefix: module for prefix, (module, _) in _LISTED.items()}
_CLASSES = {
    f"{prefix}.{name}": getattr(module, name)
    for prefix, (module, names) in _LISTED.items()
    for name in names.split()
    if hasattr(module, name)  # not every version of TFP has every class
}

# Modules whose functions only compute numbers from numbers. Keras refers to the first six as "builtins".
_BUILTINS = ("activations", "constraints", "initializers", "losses", "metrics", "regularizers")
_FUNCTIONS = (*(f"keras.{name}" for name in _BUILTINS), "keras.ops")
_LOOKUPS = ("deserialize", "get", "serialize")


def name_of(cls: type) -> str | None:
    """Returns the name of a class in saved models, or None if a saved model may not name it."""
    name = registry.registered_name(cls)
    if registry.find(name) is cls:
        return name
    public = cls.__name__.lstrip("_")  # a tfb.Chain of bijectors that are not composite tensors is a _Chain
    names = (f"{prefix}.{public}" for prefix in _MODULES)
    return next((name for name in names if name in _CLASSES and issubclass(_CLASSES[name], cls)), None)


def class_named(name: str) -> type:
    """Returns the class of that name.

    Raises:
      ValueError: If there is no such class, or if a saved model may not name it.
    """
    if not isinstance(name, str):
        raise ValueError(f"tfp_hybrid: the saved model names a class {name!r}; wanted a string.")
    prefix, _, short = name.rpartition(".")
    found = registry.find(name) or _CLASSES.get(name)
    if found is None and isinstance(getattr(_MODULES.get(prefix), short, None), type):
        raise ValueError(f"tfp_hybrid: {name} is not among the classes of TFP that a saved model may hold.")
    if found is None:
        raise ValueError(
            f"tfp_hybrid: the saved model uses the class {name!r}, which is not defined here. If it is yours, "
            "import its module before loading."
        )
    return found


def check_config(config):
    """Checks the configuration of a model, or of a part of it, before anything is built from it.

    Args:
      config: The configuration as saved: nested dictionaries and lists of strings and numbers.

    Raises:
      ValueError: If the configuration names a class or function that a saved model may not name, or if it is nested too
        deeply or too large.
    """
    _check([config], 0, {})


def _check(config, depth, shared):
    """Returns the number of values in `config`; `shared` maps the keys of shared objects to their numbers of values."""
    if depth > MAX_DEPTH:
        raise ValueError(f"tfp_hybrid: the model's configuration is nested more than {MAX_DEPTH} levels deep.")
    values, kind = len(config), None
    if isinstance(config, dict):
        kind = config.get(KIND)
        if kind == "object":
            class_named(config.get("class"))
        elif kind == "shared":
            values += shared.get(str(config.get("key")), 0)
        if isinstance(config.get("class_name"), str):  # Keras interprets any such dict as its own
            _check_keras(config)
        parts = config.values()
    else:
        parts = config
    for part in parts:
        if isinstance(part, (dict, list, tuple)):
            values += _check(part, depth + 1, shared)
            if values > MAX_VALUES:
                raise ValueError(f"tfp_hybrid: the model's configuration has more than {MAX_VALUES:,} values.")
    if kind is not None and "key" in config:
        shared.setdefault(str(config["key"]), values)
    return values


def _check_keras(config):
    """Raises ValueError if a Keras configuration names a function that a saved model may not name.

    Keras looks for a registered object first, then in its own modules, and refuses other modules. From its private
    modules it accepts only layers and similar classes.
    """
    is_function = config["class_name"] == "function"
    name = config.get("config") if is_function else config["class_name"]
    module = config.get("module")
    registered = name if is_function else config.get("registered_name", name)
    if not isinstance(name, str) or not isinstance(module, str):
        return
    if registered is not None and not isinstance(registered, str):
        raise ValueError(f"tfp_hybrid: the saved model has the registered name {registered!r}; wanted a string.")
    if keras.saving.get_registered_object(registered):
        return
    if module == "builtins":
        allowed = any(_public(f"keras.{part}", name) for part in _BUILTINS) and name not in _LOOKUPS
        allowed = allowed or not is_function
    elif module.split(".")[0] == "keras":
        found = _public(module, name)
        if found is None:
            allowed = not is_function and module.startswith(_compat.PRIVATE_MODULES)
        else:
            known = module in _FUNCTIONS or module.startswith("keras.ops.")
            allowed = inspect.isclass(found) or (known and name not in _LOOKUPS)
    else:
        return
    if not allowed:
        raise ValueError(
            f"tfp_hybrid: a saved model may not name {module}.{name}; wanted a Keras layer or other class, a function "
            f"in {', '.join(_FUNCTIONS)}, or your own class or function registered with "
            "`keras.saving.register_keras_serializable`."
        )


def _public(module, name):
    """Returns the attribute `name` of a public module of Keras, or None if it has none."""
    return functools.reduce(lambda found, part: getattr(found, part, None), [*module.split(".")[1:], name], keras)
