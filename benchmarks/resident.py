"""Resident memory of this process, from Linux' /proc."""

import pathlib

PROC = pathlib.Path("/proc/self")


def resident() -> int:
    """Returns the current resident memory in bytes."""
    return _status("VmRSS")


def peak() -> int:
    """Returns the maximum resident memory since `reset_peak`, in bytes."""
    return _status("VmHWM")


def reset_peak():
    """Resets the maximum that `peak` returns."""
    (PROC / "clear_refs").write_text("5")


def _status(field):
    for line in (PROC / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}.")
