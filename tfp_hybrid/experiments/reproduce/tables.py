"""Tables of results: rows that say whether they were measured or published, as Markdown or in a report."""

import dataclasses

import numpy as np
import rich.markup
import rich.table

MEASURED, PUBLISHED, TRUTH = "measured", "published", "known"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      title: one line.
      columns: their titles, without the first two: what a row is of, and where it comes from.
      rows: for each what it is of, where it comes from (`MEASURED`, `PUBLISHED` or `TRUTH`), and its cells.
      note: what a reader must know, or "".
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, str, list[str]]]
    note: str = ""

    def rich(self) -> rich.table.Table:
        """The table for a terminal."""
        table = rich.table.Table("", "", title=self.title)
        for column in self.columns:
            table.add_column(rich.markup.escape(column), justify="right", overflow="fold")
        for label, source, cells in self.rows:
            table.add_row(label, source, *cells, style="italic" if source == PUBLISHED else None)
        return table

    def markdown(self) -> str:
        """The table in GitHub's Markdown, published rows in italics."""
        lines = [f"**{self.title}**", "", _line(["", "", *self.columns]), "|---" * (len(self.columns) + 2) + "|"]
        for label, source, cells in self.rows:
            cells = [label, source, *cells]
            lines.append(_line([f"*{cell}*" if cell else "" for cell in cells] if source == PUBLISHED else cells))
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


def number(values, digits: int, scale: float = 1.0) -> str:
    """A number, or the mean and standard deviation of several; "-" for None.

    Args:
      values: a number, None, or several numbers.
      digits: after the point.
      scale: a factor, such as 100 for per cent.
    """
    if values is None:
        return "-"
    values = scale * np.atleast_1d(np.asarray(values, float))
    text = f"{values.mean():.{digits}f}"
    several = len(values) > 1 and np.isfinite(values).all()
    return f"{text} ± {values.std(ddof=1):.{digits}f}" if several else text


def _line(cells):
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
