"""Reports of the results: pictures, an HTML file, and tables in a Markdown file."""

import dataclasses
import pathlib
import re

import jinja2

from paper import adbench, flights, mnist, mnist_density, results, simulation
from tfp_hybrid import files
from tfp_hybrid.commands.tables import Table
from tfp_hybrid.uncertainty import pictures

EXPERIMENTS = {
    "simulation": simulation,
    "mnist": mnist,
    "mnist_density": mnist_density,
    "flights": flights,
    "adbench": adbench,
}
REPORT = "report.html"
BLOCK = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)


def measured(folder: pathlib.Path) -> dict[str, dict[str, results.Result]]:
    """Returns the results in a folder, for each experiment that has all the results it needs."""
    found = {name: results.load_all(folder / name) for name in EXPERIMENTS}
    return {name: kept for name, kept in found.items() if EXPERIMENTS[name].NEEDED <= kept.keys()}


def lacking(folder: pathlib.Path) -> dict[str, list[str]]:
    """Returns the names of the missing results, for each experiment that has some results but not all it needs."""
    found = {name: results.load_all(folder / name).keys() for name in EXPERIMENTS}
    return {
        name: sorted(EXPERIMENTS[name].NEEDED - kept)
        for name, kept in found.items()
        if kept and name not in measured(folder)
    }


def tables(folder: pathlib.Path) -> dict[str, list[Table]]:
    """Returns the tables of each experiment; the titles mark trial runs."""
    found = {}
    for name, kept in measured(folder).items():
        trial = _is_trial(kept)
        found[name] = [
            dataclasses.replace(table, title=f"{table.title} (a trial run, without significance)") if trial else table
            for table in EXPERIMENTS[name].tables(kept)
        ]
    return found


def write(folder: pathlib.Path) -> pathlib.Path:
    """Writes the pictures and the self-contained `report.html`, and returns its path."""
    sections, shown = [], tables(folder)
    for name, kept in measured(folder).items():
        experiment = EXPERIMENTS[name]
        drawn = experiment.pictures(kept)
        for title, (figure, _) in drawn.items():
            pictures.save(figure, folder / name / f"{title}.png")
        sections.append(
            {
                "title": experiment.TITLE,
                "about": experiment.ABOUT,
                "tables": shown[name],
                "figures": [{"caption": caption, "png": pictures.png(figure)} for figure, caption in drawn.values()],
                "results": list(kept.values()),
            }
        )
    environment = jinja2.Environment(loader=jinja2.PackageLoader("paper", "."), autoescape=True)
    files.write(folder / REPORT, environment.get_template("report.html.jinja").render(sections=sections))
    return folder / REPORT


def insert(folder: pathlib.Path, path: pathlib.Path):
    """Writes the experiments' tables between the lines `<!-- results -->` and `<!-- /results -->` of a Markdown file.

    Args:
      folder: Folder of the results.
      path: Path of the Markdown file.

    Raises:
      ValueError: If the file has no such lines, or the results are from a trial run.
    """
    check_markdown(path)
    trials = [name for name, kept in measured(folder).items() if _is_trial(kept)]
    if trials:
        raise ValueError(
            f"--markdown {path} is not for the tables of a trial run, but {folder / trials[0]} is one; wanted results "
            "of full runs."
        )
    parts = []
    for name, shown in tables(folder).items():
        parts += [f"## {EXPERIMENTS[name].TITLE}", EXPERIMENTS[name].ABOUT, *(table.markdown() for table in shown)]
    block = "\n\n".join(parts)
    files.write(path, BLOCK.sub(lambda match: f"{match[1]}\n{block}\n\n{match[2]}", path.read_text()))


def _is_trial(kept):
    return any(result.settings.get("quick") for result in kept.values())


def check_markdown(path: pathlib.Path):
    """Raises ValueError if the file does not exist or has no place for the tables."""
    if not path.is_file():
        raise ValueError(f"--markdown {path} does not exist; wanted an existing file.")
    if not BLOCK.search(path.read_text()):
        raise ValueError(f"--markdown {path} has no lines <!-- results --> and <!-- /results -->; wanted both.")
