import numpy as np
import pytest

from tfp_hybrid.commands import detection_report
from tfp_hybrid.commands import predictions as predicting


class Classifier:
    class head:
        classifies = True


class Data:
    test = None, np.array([0, 0, 1, 1])


def predictions(scores, mean=None):
    mean = np.eye(2)[[0, 1, 1, 1]] if mean is None else mean
    return predicting.Predictions(mean, None, None, None, np.zeros(len(scores)), np.asarray(scores, float)[:, None])


def test_the_risk_of_a_mix_counts_every_foreign_answer_as_an_error():
    """One of four test rows is wrong, the second; its score is highest among them, and all foreign ones are higher."""
    test, foreign = predictions([0, 3, 1, 2]), predictions([5, 6, 7, 8])
    curves = detection_report.mixed_risks(Classifier, Data, test, {"far": foreign}, ["score"])
    np.testing.assert_allclose(curves["far"]["score"].risk, [0, 0, 0, 1 / 4, 2 / 5, 3 / 6, 4 / 7, 5 / 8])


def test_the_larger_set_of_a_mix_is_cut():
    curves = detection_report.mixed_risks(Classifier, Data, predictions([0, 3, 1, 2]), {"far": predictions([9])}, ["s"])
    assert curves["far"]["s"].risk.tolist() == pytest.approx([0, 1 / 2])
