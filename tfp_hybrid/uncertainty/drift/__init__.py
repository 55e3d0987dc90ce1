"""Tests of drift: whether new inputs come from the same population as a reference.

`DriftDetector` compares the latents, the scores, the predictions and the columns of a batch with those of reference
inputs, and corrects for the number of comparisons. It needs the model and reference rows that were held out.

`ks_test` and `typicality_test` see scores, not inputs. They need the scores of the reference only, such as -log p(x),
and detect changes in the distribution of the score. Inputs from another population pass, however different they are,
if their scores have the same distribution as those of the reference. "No drift" by -log p(x) means that the new inputs
are as likely as the reference, not that they are alike: a density has the same value on a whole surface of inputs (a
Gaussian, at every rotation about its mean).
"""

from tfp_hybrid.uncertainty.drift.detector import DriftDetector
from tfp_hybrid.uncertainty.drift.report import DriftReport
from tfp_hybrid.uncertainty.drift.score_tests import BLIND_SPOT, DriftTest, ks_test, typicality_test

__all__ = ["BLIND_SPOT", "DriftDetector", "DriftReport", "DriftTest", "ks_test", "typicality_test"]
