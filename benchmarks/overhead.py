"""Measures the cost of tfp_hybrid's features: ratios within one process, the first step, and what a user waits for."""

import dataclasses

import rich.table

from benchmarks import cases, flops
from benchmarks.process import Worker, WorkerFailed
from benchmarks.rounds import interval, ratio, summary, take_turns
from benchmarks.run import CONSOLE, Run, progress
from benchmarks.waiting import STAGES, stages

WORKS = {
    "glow_64": ("step", "discriminative", "density", "prediction", "fit", "matmul"),
    "glow_128": ("step", "discriminative", "density", "prediction", "matmul"),
    "real_nvp_1024": ("step", "discriminative", "density", "prediction", "fit", "fit_16"),
    "real_nvp_4096": ("step", "discriminative", "density", "prediction"),
}
QUICK_WORKS = {"glow": ("step", "discriminative", "density", "prediction", "fit", "fit_16", "matmul")}
RATIOS = {
    "time of a hybrid step / of one with lambda = 0": ("discriminative", "step"),
    "time of p(y|x) / of p(y|x) and log p(x)": ("density", "prediction"),
    "items/s of fit / of the bare step": ("fit", "step"),
    "items/s of fit, steps_per_execution=16 / of the bare step": ("fit_16", "step"),
    "FLOP/s of the step / of a matrix product": ("step", "matmul"),
}
FIRST_STEPS = [(library, steps) for library in ("tfp_hybrid", "tensorflow_probability") for steps in (8, 32)]
QUICK_FIRST_STEPS = [("tfp_hybrid", 1)]
FIRST_STEP_ROUNDS = 1
FIRST_STEP_LIMIT = 180.0
WAITING = ("glow_64", "real_nvp_1024")
QUICK_WAITING = ("real_nvp",)
WAITING_ROUNDS = 3


def overhead(run: Run):
    """Measures, prints a table, and writes overhead.json."""
    all_cases = cases.QUICK_CASES if run.quick else cases.CASES
    works = QUICK_WORKS if run.quick else WORKS
    first_steps = QUICK_FIRST_STEPS if run.quick else FIRST_STEPS
    first_rounds = 1 if run.quick else FIRST_STEP_ROUNDS
    waiting = QUICK_WAITING if run.quick else WAITING
    waiting_rounds = 1 if run.quick else WAITING_ROUNDS
    turns = (run.rounds + 2) * sum(map(len, works.values()))
    with progress(turns + len(first_steps) * first_rounds + len(waiting) * waiting_rounds) as advance:
        ratios = [row for key in works for row in _ratios(run, key, all_cases[key], works[key], advance)]
        firsts = _first_steps(run, first_steps, first_rounds, advance)
        waits = _waiting({key: all_cases[key] for key in waiting}, waiting_rounds, advance)
    run.write(ratios=ratios, first_steps=firsts, waiting=waits, matmul_size=cases.MATMUL_SIZE)
    _print(ratios, firsts, waits)


def _ratios(run, key, case, works, advance):
    with Worker("tfp_hybrid", "graph", [_task(case, work) for work in works], run.seed) as worker:
        advance(str(case), len(works))
        turns = {work: lambda seconds, i=i: worker.turn(seconds, i)["seconds"] for i, work in enumerate(works)}
        seconds = take_turns(turns, run.rounds, run.seconds, advance)
        items = {work: start["items"] for work, start in zip(works, worker.starts, strict=True)}
    rates = {work: [items[work] / s for s in seconds[work]] for work in works}
    flop = {"step": flops.TRAINING * flops.forward_flops(case), "matmul": 2 * cases.MATMUL_SIZE**2}
    for name, (numerator, denominator) in RATIOS.items():
        if {numerator, denominator} <= rates.keys():
            row = {"case": key, "name": name, "ratio": ratio(rates[numerator], rates[denominator])}
            if denominator == "matmul":
                speeds = {work: [flop[work] * rate for rate in rates[work]] for work in flop}
                row["ratio"] = ratio(speeds[numerator], speeds[denominator])
                row["flops_per_second"] = {work: summary(values) for work, values in speeds.items()}
            yield row | {"items_per_second": {work: rates[work] for work in (numerator, denominator)}}


def _task(case, work):
    if work == "discriminative":
        return dataclasses.replace(case, generative_weight=0.0), "step"
    return case, work


def _first_steps(run, contestants, rounds, advance):
    """Measures construction, adapt, tracing and the first step, each time in a new process, without imports."""
    base = cases.QUICK_CASES["glow"] if run.quick else cases.CASES["glow_64"]
    rows = [{"library": library, "steps": steps, "seconds": [], "skipped": None} for library, steps in contestants]
    for _ in range(rounds):
        for row in rows:
            case = dataclasses.replace(base, steps=row["steps"])
            advance(f"time to first step: {row['library']}, {row['steps']} steps a level")
            if row["skipped"] is None:
                try:
                    with Worker(row["library"], "graph", [(case, "step")], run.seed, FIRST_STEP_LIMIT) as worker:
                        row["seconds"].append(worker.starts[0]["first_call_seconds"])
                except WorkerFailed as error:
                    row["skipped"] = str(error)
    return rows


def _waiting(chosen, rounds, advance):
    """Measures what a user waits for in a new process, in seconds by stage and case."""
    seconds = {stage: {key: [] for key in chosen} for stage in STAGES}
    for _ in range(rounds):
        for key, case in chosen.items():
            advance(f"what a user waits for: {key}")
            for stage, value in stages(case).items():
                seconds[stage][key].append(value)
    return {stage: {key: summary(values) for key, values in row.items()} for stage, row in seconds.items()}


def _print(ratios, firsts, waits):
    table = rich.table.Table("ratio", "case", title="tfp_hybrid, graph")
    table.add_column("median (least - largest)", justify="right")
    for row in ratios:
        table.add_row(row["name"], row["case"], interval(row["ratio"]))
    CONSOLE.print(table)
    table = rich.table.Table("library", title="time to the first step of a Glow, graph")
    table.add_column("steps a level", justify="right")
    table.add_column("s", justify="right")
    for row in firsts:
        seconds = f"skipped: {row['skipped']}" if row["skipped"] else interval(summary(row["seconds"]), 1)
        table.add_row(row["library"], str(row["steps"]), seconds)
    CONSOLE.print(table)
    table = rich.table.Table("stage", title="in a new process, s")
    for key in next(iter(waits.values())):
        table.add_column(key, justify="right")
    for stage, row in waits.items():
        table.add_row(stage, *(interval(value) for value in row.values()))
    CONSOLE.print(table)
