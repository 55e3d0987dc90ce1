"""What the PyTorch packages share: the head, the loss, the training step."""

import itertools
import math
import os

import torch
from torch import nn
from torch.nn import functional

from benchmarks import cases
from benchmarks.contestants import LEARNING_RATE, Work

torch.set_num_threads(os.cpu_count())


def build(case, work, variant, data, flow):
    """See `Work`; the works are `COMPARED_WORKS`.

    Args:
      case, work, variant, data: as everywhere; the variant "compile" goes through `torch.compile`.
      flow: the flow, as `functions` takes it.
    """
    x, y = (list(map(torch.from_numpy, batches)) for batches in data)
    if case.family == "glow":
        x, y = [images.permute(0, 3, 1, 2).contiguous() for images in x], [labels.long() for labels in y]
    batches = itertools.cycle(zip(x, y, strict=True))
    compiled = torch.compile if variant == "compile" else lambda function: function
    model, works = functions(case, flow, x[0], compiled)

    def call():
        if work == "step":
            return works["step"](*next(batches)).item()
        outputs = works["density"](next(batches)[0]) if work == "density" else [works["sample"]()]
        return float([output.numpy() for output in outputs][0].flat[0])

    model.train(work == "step")
    return Work(call, case.batch, sum(p.numel() for p in model.parameters() if p.requires_grad))


def functions(case, flow, x, compiled):
    """A flow with a head and an optimizer, and the works as functions of tensors.

    Args:
      case: as everywhere.
      flow: `(module, inverse_and_log_det, sample)`: the flow; from x to a flat z and its log-det; from a number to
        as many samples.
      x: a batch, to initialize from; images as `(n, C, H, W)`. The model is put on its device.
      compiled: such as `torch.compile`, applied to the loss, the density and the sampling.

    Returns:
      The model, a module; and from a work's name to its function: `step(x, y)`, which returns the loss, `density(x)`
      and `sample()`.
    """
    module, inverse_and_log_det, sample = flow
    size = cases.dimensions(case)
    model = nn.ModuleList([module, nn.Linear(size, case.outputs)]).to(x.device)
    head = model[1]
    _adapt(module, inverse_and_log_det, x)

    def latent_head(x):
        z, log_det = inverse_and_log_det(x)
        return log_det - 0.5 * (z.square().sum(1) + size * math.log(2 * math.pi)), head(z)

    @compiled
    def loss_of(x, y):
        log_prob, eta = latent_head(x)
        return _nll(case, eta, y) - case.generative_weight / size * log_prob.mean()

    @compiled
    def density_of(x):
        log_prob, eta = latent_head(x)
        return log_prob, *([eta.softmax(1)] if case.family == "glow" else _normal(eta))

    # The fastest of PyTorch's Adams; on a GPU, one that can be captured in a CUDA graph.
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True, capturable=x.is_cuda)

    def step(x, y):
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    works = {"density": torch.no_grad()(density_of), "sample": torch.no_grad()(compiled(lambda: sample(case.batch)))}
    return model, works | {"step": step}


def _adapt(module, inverse_and_log_det, x):
    """Initializes ActNorms from a batch; then their flags are Python's, on which `torch.compile` need not wait."""
    with torch.no_grad():
        inverse_and_log_det(x)
    for part in module.modules():
        for flag in ("data_dep_init_done", "initialized"):
            if flag in dict(part.named_buffers(recurse=False)):
                delattr(part, flag)
                setattr(part, flag, True)


def _nll(case, eta, y):
    if case.family == "glow":
        return functional.cross_entropy(eta, y)
    mean, stddev = _normal(eta)
    return -torch.distributions.Normal(mean, stddev, validate_args=False).log_prob(y).mean()


def _normal(eta):
    return eta[:, 0], functional.softplus(eta[:, 1]) + 1e-3
