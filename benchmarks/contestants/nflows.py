"""nflows: affine and spline couplings, masked autoregressive transforms, and `ActNorm`s."""

import torch
from nflows import distributions, flows, transforms
from torch import nn

from benchmarks.contestants import torch_works


class _MLP(nn.Sequential):
    """A network with the context argument that nflows passes."""

    def forward(self, inputs, context=None):
        return super().forward(inputs)


def build(case, work, variant, data):
    """See `torch_works.build`."""
    return torch_works.build(case, work, variant, data, flow(case))


def flow(case):
    """The flow of a case, as `torch_works.functions` takes it."""
    parts = []
    if case.family == "autoregressive":
        for i in range(case.steps):
            parts += [transforms.ReversePermutation(case.features)] if i else []
            parts += [transforms.ActNorm(case.features), _autoregressive(case)]
    else:
        for i in range(case.couplings):
            mask = torch.ones(case.features)
            mask[i % 2 :: 2] = -1
            parts += [transforms.ActNorm(case.features), _coupling(case, mask)]
    transform = transforms.CompositeTransform(parts)
    model = flows.Flow(transform, distributions.StandardNormal([case.features]))
    return model, transform, model.sample


def _coupling(case, mask):
    def network(inputs, outputs):
        return _network(inputs, case.hidden, outputs)

    if case.family == "real_nvp":
        return transforms.AffineCouplingTransform(mask, network)
    return transforms.PiecewiseRationalQuadraticCouplingTransform(
        mask, network, num_bins=case.bins, tails="linear", tail_bound=case.bound
    )


def _autoregressive(case):
    # Its first hidden layer is no block.
    return transforms.MaskedAffineAutoregressiveTransform(
        case.features, case.hidden, num_blocks=1, use_residual_blocks=False
    )


def _network(inputs, hidden, outputs):
    """A network of the sizes of the case; nflows' own are residual."""
    network = _MLP(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
    network.hidden_features = hidden  # by whose root a spline coupling divides
    return network
