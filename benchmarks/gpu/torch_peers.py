"""PyTorch's packages on the card: `work`, a part of a run.

With TF32, images in `channels_last`, cuDNN's search for the fastest convolutions, and the fused Adam; each as it is,
through `torch.compile`, and through its mode "reduce-overhead", which captures CUDA graphs of the forward and the
backward pass. The first two are also captured by hand: all of a step, the optimizer too, as one CUDA graph.
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
GRAPH = "graph"  # added to a variant's name when a whole step is captured
WARM_UP = 4  # calls before a capture, in which convolutions are chosen


def work(context):
    """Builds, waits, times.

    The option is FAMILY:VARIANT:LIBRARY,LIBRARY, and :WORK.I,WORK.I for only some works, each of the I-th case.
    """
    family, variant, libraries, *some = context.option.split(":")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    # A captured graph keeps the convolutions that it was captured with; else they are chosen when nothing else runs.
    torch.backends.cudnn.benchmark = variant == "reduce-overhead"
    # A work is compiled once for each case and package, all by the same lines of code.
    torch._dynamo.config.recompile_limit = 64
    chosen = [cases.from_json(case) for case in context.bundle.manifest["peers"][family]]
    tasks = [(library, case, "step") for library in libraries.split(",") for case in chosen]
    tasks += [(library, chosen[-1], work) for library in libraries.split(",") for work in ("density", "sample")]
    if some:
        tasks = [task for task in tasks if f"{task[2]}.{chosen.index(task[1])}" in some[0].split(",")]
    prepared = []
    for library, case, kind in tasks:
        arguments = context, library, case, kind, variant, device
        built = context.compile(f"{library} {case} {kind} {variant}", _Peer, *arguments)
        if built is not None:
            prepared.append((library, case, kind, built))
    context.wait()
    torch.backends.cudnn.benchmark = True
    for library, case, kind, peer in prepared:
        context.attempt(f"{library} {case} {kind} {variant}", _measure, context, library, case, kind, variant, peer)
        context.emit("peer", library=library, model=str(case), parameters=peer.parameters, first_calls_s=peer.first_s)
    if device == "cuda" and variant != "reduce-overhead":
        for library, case, kind, peer in prepared:
            # Samples are not captured: torch.inverse waits on the host for its error code.
            what = f"{library} {case} {kind} {variant} {GRAPH}"
            if kind != "sample" and context.attempt(what, peer.capture):
                name = f"{variant} {GRAPH}"
                context.attempt(what, _measure, context, library, case, kind, name, peer)


class _Peer:
    """A package's model and a work.

    Attributes:
      parameters: how many the model has.
      first_s: seconds that the first calls took, with compiling.
    """

    def __init__(self, context, library, case, kind, variant, device):
        from benchmarks.contestants import torch_works

        start = time.perf_counter()
        self._kind, self._marks, self._cuda = kind, variant == "reduce-overhead", device == "cuda"
        batches = _batches(case, device)
        torch.manual_seed(0)
        with torch.device(device):
            flow = importlib.import_module(f"benchmarks.contestants.{library}").flow(case)
            if case.family == "glow":
                flow[0].to(device=device, memory_format=torch.channels_last)
        mode = "reduce-overhead" if variant == "reduce-overhead" else None
        compiled = _as_it_is if variant == "eager" else lambda work: torch.compile(work, mode=mode, dynamic=False)
        model, works = torch_works.functions(case, flow, batches[0][0], compiled)
        model.train(kind == "step")
        self._model, self._works, self._batches = model, works, itertools.cycle(batches)
        self._replay = None
        for _ in range(2 if context.quick else 4):
            self.call()
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.first_s = time.perf_counter() - start

    def call(self) -> float:
        """Does the work once, with the next batch, and waits for it."""
        if self._marks:
            torch.compiler.cudagraph_mark_step_begin()
        x, y = next(self._batches)
        outputs = self._do(x, y) if self._replay is None else self._replay(x, y)
        if self._kind == "step":
            return outputs.item()  # fetched, as in the loop over exported modules
        if self._cuda:
            torch.cuda.synchronize()
        first = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        return float(first.flatten()[0])

    def capture(self) -> bool:
        """Has `call` replay all of the work as one CUDA graph."""
        # With the very strides, on which `torch.compile` sets guards.
        x, y = (t.new_empty_strided(t.size(), t.stride()).copy_(t) for t in next(self._batches))
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._do(x, y)
        torch.cuda.current_stream().wait_stream(stream)
        self._model.zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._do(x, y)

        def replay(new_x, new_y):
            x.copy_(new_x)
            y.copy_(new_y)
            graph.replay()
            return outputs

        self._replay = replay
        return True

    def _do(self, x, y):
        if self._kind == "step":
            return self._works["step"](x, y)
        return self._works["density"](x) if self._kind == "density" else self._works["sample"]()


def _as_it_is(work):
    return work


def _batches(case, device):
    """`BATCHES` batches on the device, of random numbers."""
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
    return batches


def _measure(context, library, case, kind, variant, peer):
    cuda = torch.cuda.is_available()
    for _ in range(4):
        peer.call()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times, started = [], time.perf_counter()
    while len(times) < LEAST_CALLS or (time.perf_counter() - started < SECONDS and not context.quick):
        start = time.perf_counter()
        value = peer.call()
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
