"""nflows: `AffineCouplingTransform`s and `ActNorm`s."""

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
    for i in range(case.couplings):
        mask = torch.ones(case.features)
        mask[i % 2 :: 2] = -1
        parts += [
            transforms.ActNorm(case.features),
            transforms.AffineCouplingTransform(mask, lambda inputs, outputs: _network(inputs, case.hidden, outputs)),
        ]
    transform = transforms.CompositeTransform(parts)
    model = flows.Flow(transform, distributions.StandardNormal([case.features]))
    return model, transform, model.sample


def _network(inputs, hidden, outputs):
    return _MLP(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
