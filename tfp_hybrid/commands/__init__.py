"""The commands of `tfp-hybrid` as functions: `train`, `evaluate`, `score`, `score_file`, `drift` and `export`.

Each function takes plain arguments, returns a dict or a DataFrame, and raises ValueError for invalid input. For
example:

    from tfp_hybrid import commands

    commands.train("digits", "runs/digits", epochs=5)
    metrics = commands.evaluate("runs/digits", "digits", ood=["inverted"])
    table = commands.score("runs/digits", "new.npz")
    path, rows = commands.score_file("runs/flights", "flights.parquet", "scores.parquet")
    tests = commands.drift("runs/digits", "new.npz")
    signature = commands.export("runs/digits")
"""

from tfp_hybrid.commands.drift import drift
from tfp_hybrid.commands.evaluate import evaluate
from tfp_hybrid.commands.export import export
from tfp_hybrid.commands.score import score
from tfp_hybrid.commands.streaming import score_file
from tfp_hybrid.commands.train import train

__all__ = ["drift", "evaluate", "export", "score", "score_file", "train"]
