"""normflows: `GlowBlock`s in a `MultiscaleFlow`; couplings, masked autoregressive flows and `ActNorm`s."""

import types

import normflows as nf
import numpy as np
import torch
from normflows.flows.affine import coupling
from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling

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
    if case.family == "glow":
        return _glow(case)
    flows = {"real_nvp": _real_nvp, "neural_spline": _neural_spline, "autoregressive": _autoregressive}[case.family](
        case
    )
    model = nf.NormalizingFlow(nf.distributions.DiagGaussian(case.features, trainable=False), flows)
    return model, model.inverse_and_log_det, lambda n: model.sample(n)[0]


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
    return flows


class _MLP(nf.nets.MLP):
    """A network with the context argument that spline couplings pass."""

    def forward(self, x, context=None):
        return super().forward(x)


def _neural_spline(case):
    flows = []
    for i in range(case.couplings):
        # Its own network is residual, and it has splines of the part that passes: here it gets a plain coupling.
        coupling = nf.flows.CoupledRationalQuadraticSpline(case.features, 1, case.hidden)
        mask = torch.tensor([1, 0] if i % 2 else [0, 1]).repeat(case.features // 2)
        coupling.prqct = PiecewiseRationalQuadraticCoupling(
            mask, lambda *sizes: _spline_network(case, *sizes), case.bins, tails="linear", tail_bound=case.bound
        )
        flows += [coupling, nf.flows.ActNorm(case.features)]
    return flows


def _spline_network(case, inputs, outputs):
    network = _MLP([inputs, case.hidden, case.hidden, outputs], init_zeros=True)
    network.hidden_features = case.hidden  # by whose root a coupling divides
    return network


class _Flip(nf.flows.Flow):
    """Reverses the order of the features."""

    def forward(self, z):
        return z.flip(-1), torch.zeros(len(z), device=z.device)

    inverse = forward


def _autoregressive(case):
    flows = []
    for _ in range(case.steps):
        # Its first hidden layer is no block, and has no activation: one ReLU fewer than in the other packages.
        # Reversed, its density takes one pass, and its samples all.
        step = nf.flows.MaskedAffineAutoregressive(case.features, case.hidden, num_blocks=1, use_residual_blocks=False)
        flows += [_Flip(), nf.flows.Reverse(step), nf.flows.ActNorm(case.features)]
    return flows
