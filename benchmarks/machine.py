"""The machine and the versions with which the results were measured."""

import os
import platform

PEERS = ("torch", "normflows", "nflows", "zuko", "jax", "flowjax")


def machine() -> dict:
    """Returns the CPU, its cores, the memory in GiB, the operating system, and the load average of the last minute."""
    load = os.getloadavg()[0]  # before the import, which causes load itself
    from tfp_hybrid.commands.provenance import cpu

    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.platform(),
        "load": load,
    }


def versions(*more: str) -> dict:
    """Returns the versions of Python, this package, its libraries and its peers; None if one is not installed.

    Args:
      *more: Names of further packages.
    """
    from tfp_hybrid.commands import provenance

    return provenance.versions(*PEERS, *more)
