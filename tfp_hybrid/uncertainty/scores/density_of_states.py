"""`DensityOfStates`: how unusual several statistics of one pass are together."""

from collections.abc import Sequence

import keras
import numpy as np
import scipy.special
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.bijectors import one_pass
from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.uncertainty.scores.base import Score, applies, check_statistics, halves, run
from tfp_hybrid.uncertainty.scores.complexity import CodeLength
from tfp_hybrid.uncertainty.scores.latent import LatentNorm
from tfp_hybrid.uncertainty.scores.log_prob import LevelLogProb
from tfp_hybrid.uncertainty.scores.mahalanobis import squared_distances
from tfp_hybrid.uncertainty.scores.response import Energy, MaxProbability, PredictiveEntropy, PredictiveVariance

GRID = np.r_[-3.2, -2.8, np.linspace(-2.5, 2.5, 51), 2.8, 3.2]  # of normal scores


def default_statistics(model: DensityModel) -> list[Score]:
    ...
