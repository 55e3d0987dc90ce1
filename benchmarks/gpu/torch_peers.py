"""PyTorch's packages on the card: `work`, a part of a run.

With TF32, images in `channels_last`, cuDNN's search for the fastest convolutions, and the fused Adam; each as it is,
through `torch.compile`, and through its mode "reduce-overhead", which captures CUDA graphs.
"""

import importlib
import itertools
import statistics
import time

import torch

from benchmarks import cases
from benchmarks.gpu import fills
from benchmarks.gpu.part import BATCHES, LEAST_CALLS, SECONDS

VARIANTS = ("eager", "compile", "reduce-overhead")


def work(context):
    """Builds, waits, times; the option is FAMILY:VARIANT:LIBRARY,LIBRARY."""
    family, variant, libraries = context.option.split(":")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    # A captured graph keeps the convolutions that it was captured with; else they are chosen when nothing else runs.
    torch.backends.cudnn.benchmark = variant == "reduce-overhead"
    chosen = [cases.from_json(case) for case in context.bundle.manifest["peers"][family]]
    tasks = [(library, case, "step") for library in libraries.split(",") for case in chosen]
    tasks += [(library, chosen[-1], work) for library in libraries.split(",") for work in ("density", "sample")]
    prepared = []
    for library, case, kind in tasks:
        arguments = context, library, case, kind, variant, device
        task = context.compile(f"{library} {case} {kind} {variant}", _build, *arguments)
        if task is not None:
            prepared.append((library, case, kind, task))
    context.wait()
    torch.backends.cudnn.benchmark = True
    for library, case, kind, (call, parameters, first_s) in prepared:
        context.attempt(f"{library} {case} {kind} {variant}", _measure, context, library, case, kind, variant, call)
        context.emit("peer", library=library, model=str(case), parameters=parameters, first_calls_s=first_s)


def _build(context, library, case, kind, variant, device):
    """A function that does the work once and waits for it; the model's parameters; the seconds of its first calls."""
    from benchmarks.contestants import torch_works

    start = time.perf_counter()
    glow = case.family == "glow"
    low, high = (0.0, 1.0) if glow else (-(3**0.5), 3**0.5)
    batches = []
    for i in range(BATCHES):
        x = torch.from_numpy(fills.make(fills.uniform(i, low, high), (case.batch, *case.shape), "float32")).to(device)
        y = fills.integers(i, 10) if glow else fills.uniform(i, low, high)
        y = torch.from_numpy(fills.make(y, (case.batch,), "int64" if glow else "float32")).to(device)
        if glow:
            x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        batches.append((x, y))
    torch.manual_seed(0)
    with torch.device(device):
        flow = importlib.import_module(f"benchmarks.contestants.{library}").flow(case)
        if glow:
            flow[0].to(device=device, memory_format=torch.channels_last)
    torch._dynamo.reset()
    options = {"eager": None, "compile": {}, "reduce-overhead": {"mode": "reduce-overhead"}}[variant]
    compiled = (lambda function: function) if options is None else lambda function: torch.compile(function, **options)
    model, works = torch_works.functions(case, flow, batches[0][0], compiled)
    model.train(kind == "step")
    cycle = itertools.cycle(batches)

    def call():
        if variant == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        if kind == "step":
            return works["step"](*next(cycle)).item()  # fetched, as in the loop over exported modules
        outputs = works["density"](next(cycle)[0]) if kind == "density" else works["sample"]()
        if device == "cuda":
            torch.cuda.synchronize()
        first = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        return float(first.flatten()[0])

    for _ in range(2 if context.quick else 4):
        call()
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return call, parameters, time.perf_counter() - start


def _measure(context, library, case, kind, variant, call):
    cuda = torch.cuda.is_available()
    for _ in range(4):
        call()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times, started = [], time.perf_counter()
    while len(times) < LEAST_CALLS or (time.perf_counter() - started < SECONDS and not context.quick):
        start = time.perf_counter()
        value = call()
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    context.emit(
        "timing",
        library=library,
        model=f"{case.family}_{'x'.join(map(str, case.shape))}_{case.hidden}",
        work=kind,
        policy="float32",
        batch=case.batch,
        loop=variant,
        seconds=seconds,
        seconds_min=min(times),
        seconds_max=max(times),
        calls=len(times),
        items_per_s=case.batch / seconds,
        process_peak_bytes=torch.cuda.max_memory_allocated() if cuda else None,
        value=value,
    )
