"""Resident memory of this process, as Linux counts it."""

import pathlib

PROC = pathlib.Path("/proc/self")


def resident() -> int:
    """Resident memory now, in bytes."""
    return _status("VmRSS")


def peak() -> int:
    """The most that it was since `reset_peak`, in bytes."""
    return _status("VmHWM")


def reset_peak():
    """Lets `peak` start anew."""
    (PROC / "clear_refs").write_text("5")


def _status(field):
    for line in (PROC / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}.")
