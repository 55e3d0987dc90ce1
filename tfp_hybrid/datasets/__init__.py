"""Data sets as arrays, through tensorflow-datasets, and the builders they need."""

from tfp_hybrid.datasets.dataset import Dataset
from tfp_hybrid.datasets.flights import Flights
from tfp_hybrid.datasets.loading import NAMES, load
from tfp_hybrid.datasets.not_mnist import NotMnist
from tfp_hybrid.datasets.simulation import simulate, true_mean, true_stddev

__all__ = [
    "NAMES",
    "Dataset",
    "Flights",
    "NotMnist",
    "load",
    "simulate",
    "true_mean",
    "true_stddev",
]
