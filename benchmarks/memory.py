"""Measures the memory of a training step against depth, with stored activations and with `recompute=True`."""

import dataclasses

import rich.table

from benchmarks import cases, pictures
from benchmarks.process import Worker
from benchmarks.rounds import interval, ratio, take_turns
from benchmarks.run import CONSOLE, Run, progress

STEPS = {False: (8, 16, 32), True: (8, 16, 32, 64)}
QUICK_STEPS = {False: (1,), True: (1,)}
TIMED_STEPS = 8
CALLS = 3


def memory(run: Run):
    """Measures, prints a table, and writes memory.json and memory.png."""
    base = cases.QUICK_CASES["glow"] if run.quick else cases.CASES["glow_64"]
    depths = QUICK_STEPS if run.quick else STEPS
    timed = base if run.quick else dataclasses.replace(base, steps=TIMED_STEPS)
    with progress(sum(map(len, depths.values())) + 2 * (run.rounds + 1)) as advance:
        rows = [_peak(run, base, recompute, steps, advance) for recompute in depths for steps in depths[recompute]]
        times, slowdown = _times(run, timed, advance)
    run.write(case=str(base), peaks=rows, step={"steps": timed.steps, "seconds": times, "ratio": slowdown})
    _print(base, rows, slowdown)
    pictures.lines(
        {
            f"activations {'recomputed' if recompute else 'stored'}": [
                (row["steps"], row["step_bytes"] / 2**20) for row in rows if row["recompute"] == recompute
            ]
            for recompute in depths
        },
        ("steps of flow on each of the 2 levels", "memory of a training step (MiB)"),
        run.picture,
    )


def _peak(run, base, recompute, steps, advance):
    """Returns the peak memory of a few steps, also relative to the process after construction and a tiny step."""
    advance(f"memory: {steps} steps a level{', recompute' if recompute else ''}")
    case = dataclasses.replace(base, steps=steps, recompute=recompute)
    with Worker("tfp_hybrid", "graph", [(case, "step_after_a_tiny_one")], run.seed) as worker:
        turns = [worker.turn(0.0) for _ in range(CALLS)]
    before, peak = turns[0]["memory_before"], max(turn["memory_peak"] for turn in turns)
    return {
        "recompute": recompute,
        "steps": steps,
        "resident_bytes_before": before,
        "peak_bytes": peak,
        "step_bytes": peak - before,
    }


def _times(run, case, advance):
    names = {"stored": False, "recomputed": True}
    tasks = [(dataclasses.replace(case, recompute=recompute), "step") for recompute in names.values()]
    with Worker("tfp_hybrid", "graph", tasks, run.seed) as worker:
        advance("time of a step", 0)
        turns = {name: lambda seconds, i=i: worker.turn(seconds, i)["seconds"] for i, name in enumerate(names)}
        seconds = take_turns(turns, run.rounds, run.seconds, advance)
    return seconds, ratio(seconds["recomputed"], seconds["stored"])


def _print(case, rows, slowdown):
    table = rich.table.Table("activations", title=f"memory of a training step, graph\n{case}, but for the steps")
    for title in ("steps a level", "of the step, MiB", "peak of the process, MiB"):
        table.add_column(title, justify="right")
    for row in rows:
        sizes = (f"{row[key] / 2**20:,.0f}" for key in ("step_bytes", "peak_bytes"))
        table.add_row("recomputed" if row["recompute"] else "stored", str(row["steps"]), *sizes)
    CONSOLE.print(table)
    CONSOLE.print(f"Time of a step, recomputed / stored: {interval(slowdown)}", highlight=False)
