"""Contestants take turns, A B A B ..., so that what disturbs the machine disturbs all; ratios are taken in pairs."""

import statistics


def take_turns(turns, rounds: int, seconds: float, advance) -> dict[str, list]:
    """Every contestant has a turn in every round; the first round, the warm-up, does not count.

    Args:
      turns: from a contestant's name to a function of the turn's seconds.
      rounds: that count.
      seconds: of a turn.
      advance: called after every turn.

    Returns:
      From a contestant's name to what its turns returned, a list of `rounds`.
    """
    results = {name: [] for name in turns}
    for counted in [False] + rounds * [True]:
        for name, turn in turns.items():
            result = turn(seconds)
            if counted:
                results[name].append(result)
            advance()
    return results


def summary(values) -> dict:
    """Median, least and largest of the rounds, and the rounds themselves."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def ratio(numerators, denominators) -> dict:
    """`summary` of the ratios in the same round."""
    return summary([a / b for a, b in zip(numerators, denominators, strict=True)])


def interval(figure, digits=2) -> str:
    """A `summary` as text: median (least - largest)."""
    median, low, high = (f"{figure[key]:,.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({low} - {high})"
