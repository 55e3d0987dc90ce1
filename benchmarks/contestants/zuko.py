"""zuko: the couplings of `zuko.flows.RealNVP`, with an affine map of the features before each, as an ActNorm."""

import torch
import zuko

from benchmarks.contestants import torch_works


def build(case, work, variant, data):
    """See `torch_works.build`."""
    return torch_works.build(case, work, variant, data, flow(case))


def flow(case):
    """The flow of a case, as `torch_works.functions` takes it."""
    real_nvp = zuko.flows.RealNVP(case.features, transforms=case.couplings, hidden_features=2 * (case.hidden,))
    parts = []
    for coupling in real_nvp.transform.transforms:
        parts += [_act_norm(case.features), coupling]
    model = zuko.flows.Flow(parts, real_nvp.base)
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


def _act_norm(features):
    affine = zuko.transforms.MonotonicAffineTransform
    return zuko.flows.UnconditionalTransform(affine, torch.zeros(features), torch.zeros(features))
