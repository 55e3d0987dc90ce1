"""Data sets as arrays, their tensorflow-datasets builders, and streams of batches from files of any size."""

from tfp_hybrid.datasets.dataset import Dataset
from tfp_hybrid.datasets.density import DensityData, load_density
from tfp_hybrid.datasets.few_labels import hide_labels
from tfp_hybrid.datasets.flights import Flights
from tfp_hybrid.datasets.loading import NAMES, load
from tfp_hybrid.datasets.not_mnist import NotMnist
from tfp_hybrid.datasets.parquet import from_parquet
from tfp_hybrid.datasets.simulation import simulate, true_log_prob, true_mean, true_stddev
from tfp_hybrid.datasets.tfrecord import from_tfrecord

__all__ = [
    "NAMES",
    "Dataset",
    "DensityData",
    "Flights",
    "NotMnist",
    "from_parquet",
    "from_tfrecord",
    "hide_labels",
    "load",
    "load_density",
    "simulate",
    "true_log_prob",
    "true_mean",
    "true_stddev",
]
