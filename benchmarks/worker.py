"""A worker process: one contestant, which runs when its parent requests it, and sleeps in between.

Its argument is JSON: `library`, `variant`, `seed` and `tasks`, a list of `case` and `work`. It answers with a line of
JSON for each task, after the model is built and called once:

    {"items": 128, "parameters": 177786, "first_call_seconds": 4.2}

Then it answers each request, `{"task": 0, "seconds": 3.0}`, with the result of a turn:

    {"calls": 9, "seconds": 0.31, "memory_before": 812646400, "memory_peak": 1203765248}

`seconds` is the median time of a call. The memory is the resident memory in bytes before the turn, and its maximum
during the turn. After an exception, the last answer is `{"error": "..."}`.
"""

import importlib
import json
import math
import os
import re
import statistics
import sys
import time

from benchmarks import cases, resident


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of libraries is not an answer

    def answer(message):
        print(json.dumps(message), file=answers, flush=True)

    try:
        spec = json.loads(sys.argv[1])
        works = [_start(spec, task, answer) for task in spec["tasks"]]
        for line in sys.stdin:
            request = json.loads(line)
            answer(_turn(works[request["task"]].call, request["seconds"]))
    except Exception as error:
        answer({"error": _one_line(error)})
        raise


def _start(spec, task, answer):
    contestant = importlib.import_module(f"benchmarks.contestants.{spec['library']}")
    case = cases.from_json(task["case"])
    data = cases.batches(case, spec["seed"])
    start = time.perf_counter()
    work = contestant.build(case, task["work"], spec["variant"], data)
    _check(work.call())
    seconds = time.perf_counter() - start
    answer({"items": work.items, "parameters": work.parameters, "first_call_seconds": seconds})
    return work


def _turn(call, seconds):
    resident.reset_peak()
    before, times = resident.resident(), []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        value = call()
        times.append(time.perf_counter() - start)
    _check(value)
    return {
        "calls": len(times),
        "seconds": statistics.median(times),
        "memory_before": before,
        "memory_peak": resident.peak(),
    }


def _check(value):
    if not math.isfinite(value):
        raise FloatingPointError(f"the result is {value}")


def _one_line(error):
    message = next(filter(None, map(str.strip, str(error).splitlines())), "")
    message = re.sub(r"(?:/[^\s/:'\"]+)+/", "", message)  # folders of this machine
    return f"{type(error).__name__}: {message}"[:200]


if __name__ == "__main__":
    main()
