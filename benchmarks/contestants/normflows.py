"""normflows: `GlowBlock`s in a `MultiscaleFlow`; `AffineCouplingBlock`s and `ActNorm`s."""

import types

import normflows as nf
import numpy as np
import torch
from normflows.flows.affine import coupling

from benchmarks.contestants import torch_works


def _product(sizes):
    product = 1
    for size in sizes:
        product *= size
    return product


# Of the sizes of an image. `torch.compile` makes NumPy's product a tensor on the CPU, one for each ActNorm, with which
# its mode "reduce-overhead" cannot capture a graph on a GPU: "storage data ptrs are not allocated in pool".
coupling.np = types.SimpleNamespace(prod=_product, nan=np.nan)


def build(case, work, variant, data):
    """See `torch_works.build`."""
    return torch_works.build(case, work, variant, data, flow(case))


def flow(case):
    """The flow of a case, as `torch_works.functions` takes it."""
    return _glow(case) if case.family == "glow" else _real_nvp(case)


def _glow(case):
    latents, flows = [], []
    for level, (side, channels) in reversed(list(enumerate(case.level_shapes))):
        blocks = [nf.flows.GlowBlock(channels, case.hidden) for _ in range(case.steps)]
        flows.append([*blocks, nf.flows.Squeeze()])
        out = channels if level == case.levels - 1 else channels // 2
        latents.append(nf.distributions.DiagGaussian((out, side, side), trainable=False))
    merges = [nf.flows.Merge() for _ in latents[1:]]
    model = nf.MultiscaleFlow(latents, flows, merges, class_cond=False)

    def inverse_and_log_det(x):
        z, log_det = model.inverse_and_log_det(x)
        return torch.cat([part.flatten(1) for part in z], 1), log_det

    return model, inverse_and_log_det, lambda n: model.sample(n)[0]


def _real_nvp(case):
    half, flows = case.features // 2, []
    for i in range(case.couplings):
        network = nf.nets.MLP([half, case.hidden, case.hidden, case.features], init_zeros=True)
        split = "channel_inv" if i % 2 else "channel"
        flows += [nf.flows.AffineCouplingBlock(network, split_mode=split), nf.flows.ActNorm(case.features)]
    model = nf.NormalizingFlow(nf.distributions.DiagGaussian(case.features, trainable=False), flows)
    return model, model.inverse_and_log_det, lambda n: model.sample(n)[0]
