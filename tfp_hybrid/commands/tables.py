"""Tables of results for terminals and Markdown files."""

import dataclasses

import numpy as np
import rich.console
import rich.markup
import rich.table

from tfp_hybrid.uncertainty.drift import BLIND_SPOT

MEASURED, PUBLISHED, TRUTH = "measured", "published", "known"
_MOST_COLUMNS = 20


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose rows have a label, a source and cells.

    Attributes:
      title: Title of the table.
      columns: Titles of the columns of cells.
      rows: Label, source (`MEASURED`, `PUBLISHED`, `TRUTH` or "") and cells of each row. In a terminal, labels or
        sources are not shown if all of them are "".
      note: A note below the table, or "".
      heading: Title of the column of labels.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, str, list[str]]]
    note: str = ""
    heading: str = ""

    def rich(self) -> rich.table.Table:
        """Returns the table for a terminal; published rows are in italics."""
        leading = [i for i in (0, 1) if any(row[i] for row in self.rows)]
        table = rich.table.Table(*((self.heading, "")[i] for i in leading), title=self.title)
        for column in self.columns:
            table.add_column(rich.markup.escape(column), justify="right", overflow="fold")
        for row in self.rows:
            cells = [*(row[i] for i in leading), *row[2]]
            table.add_row(*cells, style="italic" if row[1] == PUBLISHED else None)
        return table

    def markdown(self) -> str:
        """Returns the table in GitHub's Markdown; published rows are in italics."""
        titles = [self.heading, "", *self.columns]
        lines = [f"**{self.title}**", "", _line(titles), "|---" * len(titles) + "|"]
        for label, source, cells in self.rows:
            cells = [label, source, *cells]
            lines.append(_line([f"*{cell}*" if cell else "" for cell in cells] if source == PUBLISHED else cells))
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


def show(tables: list[Table]):
    """Prints tables with their notes."""
    console = rich.console.Console()
    for table in tables:
        console.print(table.rich())
        if table.note:
            console.print(table.note, highlight=False, markup=False)


def metrics_tables(metrics: dict[str, dict]) -> list[Table]:
    """Returns the tables of the metrics from `train` or `evaluate`."""
    test = Table("test rows", tuple(metrics["test"]), [("", "", [number(v, 4) for v in metrics["test"].values()])])
    tables = [test]
    if metrics["ood"]:
        rows = [(name, "", [number(v, 4) for v in row.values()]) for name, row in metrics["ood"].items()]
        columns = tuple(next(iter(metrics["ood"].values())))
        tables.append(Table(f"out-of-distribution, by the score {metrics['score']!r}", columns, rows))
    if metrics.get("scores"):
        tables += _score_tables(metrics["scores"])
    return tables


def drift_tables(answer: dict) -> list[Table]:
    """Returns the tables of the result of `drift`."""
    title = f"{answer['rows']:,} inputs against {answer['reference_rows']:,} held-out ones"
    if "monitors" in answer:
        return _monitor_tables(answer)
    if "columns" not in answer:
        rows = [(test["name"], "", _drift_cells(test, "p_value")) for test in answer["tests"]]
        columns = ("statistic", "p-value", "effect size", "drift")
        note = f"{BLIND_SPOT} With --reference FILE, held-out inputs, the inputs themselves are compared."
        return [Table(f"{title}, by {answer['score']}", columns, rows, note, heading="test")]
    columns = ("statistic", "corrected p-value", "effect size", "drift")
    rows = [
        (f"{test['of']}: {test['test']}", "", _drift_cells(test, "corrected_p_value"))
        for test in answer["tests"]
        if test["group"] != "columns"
    ]
    verdict = f"{'Drift' if answer['drifted'] else 'No drift'}: p-value {answer['p_value']:.4g} of all tests together."
    tables = [Table(title, columns, rows, "" if answer["columns"] else verdict, heading="test")]
    if answer["columns"]:
        clearest = sorted(answer["columns"], key=lambda row: (row["corrected_p_value"], -row["distance"]))
        holes = any(row["reference_holes"] or row["new_holes"] for row in clearest)
        rows = [(row["column"], "", _column_cells(row, holes)) for row in clearest[:_MOST_COLUMNS]]
        title = "columns" if len(rows) == len(clearest) else f"the {len(rows)} of {len(clearest):,} clearest columns"
        columns = ("reference mean", "new mean", "shift [sd]", "Cliff's delta", *["holes [%]"] * holes)
        columns += ("corrected p-value", "drift")
        tables.append(Table(title, columns, rows, verdict, heading="column"))
    return tables


def _monitor_tables(answer):
    title = f"{answer['rows']:,} rows against {answer['reference_rows']:,} earlier ones, by {answer['score']}"
    rows = [(test["name"], "", _drift_cells(test, "p_value")) for test in answer["tests"]]
    tests = Table(title, ("statistic", "p-value", "effect size", "drift"), rows, BLIND_SPOT, heading="test")
    rows = [(monitor["file"], "", _monitor_cells(monitor)) for monitor in answer["monitors"]]
    columns = ("rows", "abstains", "not finite", "mean", "5 %", "median", "95 %")
    if not any(monitor["non_finite"] for monitor in answer["monitors"]):
        rows = [(*row[:2], row[2][:2] + row[2][3:]) for row in rows]
        columns = columns[:2] + columns[3:]
    return [tests, Table("scores", columns, rows, heading="monitor")]


def _monitor_cells(monitor):
    share = f"{number(monitor['abstention_rate'], 2, 100)} %"
    numbers = (f"{monitor[name]:.4g}" for name in ("mean", "p5", "p50", "p95"))
    return [f"{monitor['rows']:,}", share, f"{monitor['non_finite']:,}", *numbers]


def _drift_cells(test, p_value):
    numbers = f"{test['statistic']:.4f}", f"{test[p_value]:.4g}", f"{test['effect_size']:+.3f}"
    return [*numbers, "yes" if test["drifted"] else "no"]


def _column_cells(row, holes):
    means = (_mean(row[name]) for name in ("reference_mean", "new_mean"))
    forms = {"shift": "+.2f", "cliffs_delta": "+.3f"}
    moved = ("-" if np.isnan(row[name]) else format(row[name], form) for name, form in forms.items())
    shares = [f"{100 * row[name]:.3g}" for name in ("reference_holes", "new_holes")]
    shares = [" -> ".join(shares) if any(share != "0" for share in shares) else "-"] * holes
    return [*means, *moved, *shares, f"{row['corrected_p_value']:.4g}", "yes" if row["drifted"] else "no"]


def _mean(value):
    """Formats a mean; dates are text already, and "-" stands for NaN, as of a category."""
    if isinstance(value, str):
        return value
    return "-" if np.isnan(value) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.6g}"


def number(values, digits: int, scale: float = 1.0) -> str:
    """Formats a number, or the mean and standard deviation of several numbers; "-" stands for None.

    Args:
      values: A number, several numbers, or None.
      digits: Number of digits after the decimal point.
      scale: Factor of the values, such as 100 for per cent.
    """
    if values is None:
        return "-"
    values = scale * np.atleast_1d(np.asarray(values, float))
    text = f"{values.mean():.{digits}f}"
    several = len(values) > 1 and np.isfinite(values).all()
    return f"{text} ± {values.std(ddof=1):.{digits}f}" if several else text


def _score_tables(sets):
    """Yields tables, by score and out-of-distribution set, of the AUROC and (for classifiers) the risk on a mix."""
    yield _by_score("AUROC of each score", "auroc", sets)
    if any("risk95" in row for rows in sets.values() for row in rows.values()):
        yield _by_score("error rate among the 95 % kept of an equal mix", "risk95", sets)


def _by_score(title, column, sets):
    scores = next(iter(sets.values()))
    rows = [(score, "", [number(rows[score][column], 4) for rows in sets.values()]) for score in scores]
    return Table(title, tuple(sets), rows, heading="score")


def _line(cells):
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
