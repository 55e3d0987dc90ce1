"""Compares tfp_hybrid with other packages on the same work in one run."""

import contextlib
import dataclasses

import rich.table

from benchmarks import contestants, pictures
from benchmarks.parameters import check_parameters
from benchmarks.process import Worker, WorkerFailed
from benchmarks.rounds import interval, ratio, summary, take_turns
from benchmarks.run import CONSOLE, Run, progress


@dataclasses.dataclass
class Entry:
    """A contestant for one work of one case.

    Args:
      library: Name of the package.
      variant: Variant of the package, such as eager or compiled.
      worker: Process of the contestant, or None if it is skipped.
      skipped: Reason why the contestant is skipped, or None.
    """

    library: str
    variant: str
    worker: Worker | None = None
    skipped: str | None = None

    @property
    def name(self):
        return f"{self.library}, {self.variant}"

    @property
    def start(self):
        return self.worker.starts[0]

    def turn(self, seconds):
        """Returns the seconds per call, or None if the contestant is skipped."""
        if self.skipped is None:
            try:
                return self.worker.turn(seconds)["seconds"]
            except WorkerFailed as error:
                self.skipped = str(error)
        return None


def compare(run: Run, chosen: dict, works, libraries):
    """Measures; for each case, prints a table per work, and writes compare_<case>.json and compare_<case>.png.

    Args:
      run: Options of the command.
      chosen: Cases by name.
      works: Names of works, from `COMPARED_WORKS`.
      libraries: Names of the packages to compare.

    Raises:
      ValueError: If a contestant does not have the expected number of parameters.
    """
    entries = [len(contestants.entries(case, work, libraries)) for case in chosen.values() for work in works]
    with progress(sum(entries) * (run.rounds + 2)) as advance:
        for key, case in chosen.items():
            files, results = dataclasses.replace(run, name=f"{run.name}_{key}"), []
            for work in filter(lambda work: contestants.entries(case, work, libraries), works):
                rows = [{"work": work} | row for row in _measure(run, case, work, libraries, advance)]
                results += rows
                _print(case, work, rows)
                files.write(case=str(case), works=contestants.COMPARED_WORKS, results=results)
            pictures.bars(results, str(case), files.picture)


def _measure(run, case, work, libraries, advance):
    with contextlib.ExitStack() as stack:
        entries = []
        for library, variant in contestants.entries(case, work, libraries):
            entries.append(_started(Entry(library, variant), case, work, run.seed, stack))
            advance(f"{case}: {work}")
        turns = {entry.name: entry.turn for entry in entries}
        seconds = take_turns(turns, run.rounds, run.seconds, advance)
    rates = {
        entry.name: [entry.start["items"] / s for s in seconds[entry.name]] for entry in entries if not entry.skipped
    }
    return [_row(entry, seconds[entry.name], rates) for entry in entries]


def _started(entry, case, work, seed, stack):
    entry.skipped = contestants.missing(entry.library)
    if entry.skipped is None:
        try:
            entry.worker = stack.enter_context(Worker(entry.library, entry.variant, [(case, work)], seed))
            check_parameters(case, entry.library, entry.start["parameters"])
        except WorkerFailed as error:
            entry.skipped = str(error)
    return entry


def _row(entry, seconds, rates):
    row = {"library": entry.library, "variant": entry.variant, "skipped": entry.skipped}
    if entry.skipped:
        return row
    ours = [name for name in rates if name.startswith(contestants.OURS)]
    return row | {
        "items_per_call": entry.start["items"],
        "parameters": entry.start["parameters"],
        "first_call_seconds": entry.start["first_call_seconds"],
        "seconds_per_call": seconds,
        "items_per_second": summary(rates[entry.name]),
        "ratios": {name: ratio(rates[name], rates[entry.name]) for name in ours if name != entry.name},
    }


def _print(case, work, rows):
    ours = [f"{row['library']}, {row['variant']}" for row in rows if row["library"] == contestants.OURS]
    table = rich.table.Table(
        title=f"{case}\n{contestants.COMPARED_WORKS[work]}",
        caption="Median (least - largest) of the rounds. Last columns: items/s of tfp_hybrid, by variant, / the row's.",
    )
    table.add_column("contestant", no_wrap=True)
    variants = (name.removeprefix(f"{contestants.OURS}, ") for name in ours)
    for title in ("items/s", "first call (s)", "parameters", *(f"{variant} / its" for variant in variants)):
        table.add_column(title, justify="right")
    skipped = []
    for row in rows:
        name = f"{row['library']}, {row['variant']}".replace("tensorflow_probability", "TFP")
        if row["skipped"]:
            skipped.append(f"{name}: skipped: {row['skipped']}")
            continue
        table.add_row(
            name,
            interval(row["items_per_second"], 0),
            f"{row['first_call_seconds']:.1f}",
            f"{row['parameters']:,}",
            *(interval(row["ratios"][name]) if name in row["ratios"] else "" for name in ours),
        )
    CONSOLE.print(table, *skipped, sep="\n", highlight=False, markup=False)
