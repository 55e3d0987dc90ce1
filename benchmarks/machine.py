"""Where and with what the figures were taken."""

import os
import platform

PEERS = ("torch", "normflows", "nflows", "zuko")


def machine() -> dict:
    """CPU, its cores, memory in GiB, operating system, and how busy it is: the load average of the last minute."""
    load = os.getloadavg()[0]  # before the import, which takes seconds of work
    from tfp_hybrid.commands.provenance import cpu

    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.platform(),
        "load": load,
    }


def versions() -> dict:
    """Versions of Python, of this package, of the libraries under it and of the peers; None if not installed."""
    from tfp_hybrid.commands import provenance

    return provenance.versions(*PEERS)
