"""zuko: couplings and autoregressive transformations, with an affine map of the features before each, as an ActNorm."""

import functools

import torch
import zuko

from benchmarks.contestants import torch_works


def build(case, work, variant, data):
    """See `torch_works.build`."""
    return torch_works.build(case, work, variant, data, flow(case))


def flow(case):
    """The flow of a case, as `torch_works.functions` takes it."""
    steps, parts = _steps(case), []
    for step in steps:
        parts += [_act_norm(case.features), step]
    base = zuko.lazy.UnconditionalDistribution(
        zuko.distributions.DiagNormal, torch.zeros(case.features), torch.ones(case.features), buffer=True
    )
    model = zuko.flows.Flow(parts, base)
    act_norms, lazy_couplings = parts[::2], parts[1::2]
    # Made once, not in every step: that is faster, and the step that torch.compile makes of it does not crash.
    couplings = [coupling() for coupling in lazy_couplings]

    def inverse_and_log_det(x):
        log_det = 0.0
        for act_norm, coupling in zip(act_norms, couplings, strict=True):
            x, log_scale = act_norm().call_and_ladj(x)
            x, coupling_log_det = coupling.call_and_ladj(x)
            log_det = log_det + log_scale.sum(-1) + coupling_log_det
        return x, log_det

    return model, inverse_and_log_det, lambda n: model().sample((n,))


def _steps(case):
    options = dict(hidden_features=2 * (case.hidden,))
    if case.family == "autoregressive":
        order = torch.arange(case.features)
        return [
            zuko.flows.MaskedAutoregressiveTransform(case.features, order=order.flip(0) if i % 2 else order, **options)
            for i in range(case.steps)
        ]
    if case.family == "neural_spline":
        options["univariate"] = functools.partial(zuko.transforms.MonotonicRQSTransform, bound=case.bound)
        options["shapes"] = [(case.bins,), (case.bins,), (case.bins - 1,)]
    features = torch.arange(case.features)
    return [
        zuko.flows.GeneralCouplingTransform(case.features, mask=features % 2 == i % 2, **options)
        for i in range(case.couplings)
    ]


def _act_norm(features):
    affine = zuko.transforms.MonotonicAffineTransform
    return zuko.flows.UnconditionalTransform(affine, torch.zeros(features), torch.zeros(features))
