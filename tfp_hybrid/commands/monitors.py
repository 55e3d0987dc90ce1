"""`compare`: tests one monitor against another, both in files."""

import dataclasses
import pathlib

from tfp_hybrid.uncertainty import Monitor, pictures


def is_monitor(path: pathlib.Path) -> bool:
    """Returns whether a path is that of a monitor, by its name."""
    return path.suffix == ".json"


def compare(before: pathlib.Path, after: pathlib.Path, significance: float, picture: pathlib.Path | None) -> dict:
    """Returns the result of `drift` for two monitors, as described there.

    Raises:
      ValueError: If a file is not a monitor or has no rows, or if the monitors are of different rejectors.
    """
    for path in (before, after):
        if not is_monitor(path):
            raise ValueError(f"{path} is not a monitor; wanted two .json files, to compare the second with the first.")
    monitors = [Monitor.load(path) for path in (before, after)]
    for path, monitor in zip((before, after), monitors, strict=True):
        if not monitor.rows:
            raise ValueError(f"{path} is a monitor without rows; wanted at least one row.")
    reference, new = monitors
    answer = {
        "score": new.title,
        "reference_rows": reference.rows,
        "rows": new.rows,
        "tests": [dataclasses.asdict(test) | {"drifted": test.drifted(significance)} for test in new.tests(reference)],
        "monitors": [
            {"file": str(path)} | monitor.summary() for path, monitor in zip((before, after), monitors, strict=True)
        ],
    }
    if picture is not None:
        names = (before.name, after.name) if before.name != after.name else (str(before), str(after))
        pictures.save(pictures.monitor_windows(dict(zip(names, monitors, strict=True)), significance), picture)
    return answer
