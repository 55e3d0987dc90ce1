"""Contestants take turns, A B A B ..., so that disturbances of the machine affect all; ratios are taken per round."""

import statistics
import time
from collections.abc import Callable


def take_turns(turns, rounds: int, seconds: float, advance) -> dict[str, list]:
    """Gives every contestant a turn in every round; the first round is a warm-up and does not count.

    Args:
      turns: A function of the seconds of a turn for each contestant, by name.
      rounds: Number of rounds after the warm-up.
      seconds: Seconds per turn.
      advance: A function that is called after every turn.

    Returns:
      The results of each contestant's turns, by name; each is a list of length `rounds`.
    """
    results = {name: [] for name in turns}
    for counted in [False] + rounds * [True]:
        for name, turn in turns.items():
            result = turn(seconds)
            if counted:
                results[name].append(result)
            advance()
    return results


def once(work: Callable) -> Callable:
    """Returns a turn for `take_turns` that calls `work` once, and returns its time in seconds."""

    def turn(_):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return turn


def summary(values) -> dict:
    """Returns the median, minimum and maximum over the rounds, and the values of the rounds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def ratio(numerators, denominators) -> dict:
    """Returns the `summary` of the ratios within each round."""
    return summary([a / b for a, b in zip(numerators, denominators, strict=True)])


def interval(figure, digits=2) -> str:
    """Formats a `summary` as median (minimum - maximum)."""
    median, low, high = (f"{figure[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({low} - {high})"
