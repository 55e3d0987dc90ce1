"""Which kernels a call spends its time in, by jax's profiler."""

import collections
import gzip
import json
import pathlib
import re
import tempfile

import jax

KEPT = 40  # kernels in a profile


def kernels(function, steps: int) -> dict:
    """Profiles one call.

    Args:
      function: the call; it waits for its result.
      steps: in a call.

    Returns:
      Of a step: "kernels", their number; "busy_us", microseconds in which one ran; and "top", for those with the
      most time: name without its number, microseconds and number.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            function()
        (file,) = pathlib.Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    devices = {
        event["pid"]
        for event in events
        if event.get("name") == "process_name" and "/device:GPU" in str(event.get("args", {}).get("name"))
    }
    streams = {
        (event["pid"], event["tid"])
        for event in events
        if event.get("name") == "thread_name" and "Stream" in str(event.get("args", {}).get("name"))
    }
    times, counts = collections.Counter(), collections.Counter()
    for event in events:
        if event.get("ph") == "X" and event["pid"] in devices and (event["pid"], event["tid"]) in streams:
            name = re.sub(r"[._]?\d+$", "", event["name"])[:80]
            times[name] += event.get("dur", 0.0)
            counts[name] += 1
    return {
        "kernels": sum(counts.values()) / steps,
        "busy_us": sum(times.values()) / steps,
        "top": [[name, round(us / steps, 2), counts[name] / steps] for name, us in times.most_common(KEPT)],
    }
