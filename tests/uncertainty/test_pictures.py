import io
import re

import matplotlib
import numpy as np
import PIL.Image
import pytest
import tensorflow_probability as tfp
from helpers import contrast

from tfp_hybrid.uncertainty import classification, pictures, risk_coverage_curve
from tfp_hybrid.uncertainty.pictures.style import COLOURS

RNG = np.random.default_rng(0)
INSIDE = RNG.normal(size=200)
OUTSIDE = {"far": RNG.normal(3, 1, 100), "endless": np.r_[np.full(50, np.inf), INSIDE]}
P = RNG.dirichlet(np.ones(3), 200)
CASES = {
    "score_histograms": lambda: pictures.score_histograms({"in": INSIDE, "far": OUTSIDE["endless"]}, 1.0),
    "log_prob_histograms": lambda: pictures.log_prob_histograms({"in": -INSIDE, "far": -OUTSIDE["endless"]}),
    "roc_curves": lambda: pictures.roc_curves(INSIDE, OUTSIDE),
    "precision_recall_curves": lambda: pictures.precision_recall_curves(INSIDE, OUTSIDE),
    "risk_coverage_curves": lambda: pictures.risk_coverage_curves(
        {"score": risk_coverage_curve(INSIDE, (INSIDE > 1).astype(float))}
    ),
    "reliability_diagram": lambda: pictures.reliability_diagram(
        {"model": classification.reliability(P, RNG.integers(0, 3, 200))}
    ),
    "coverage_diagram": lambda: pictures.coverage_diagram({"model": tfp.distributions.Normal(0 * INSIDE, 1.0)}, INSIDE),
    "drift_picture": lambda: pictures.drift_picture(INSIDE, OUTSIDE["endless"]),
    "image_grid": lambda: pictures.image_grid(RNG.integers(0, 4, (7, 5, 5, 1)), 4, columns=4),
    "extremes": lambda: pictures.extremes(RNG.integers(0, 4, (30, 5, 5, 3)), RNG.normal(size=30), 4),
    "answers": lambda: pictures.answers(
        {"in": RNG.integers(0, 4, (3, 5, 5, 1)), "far": RNG.integers(0, 4, (2, 5, 5, 1))},
        {"in": ["a", "b", "c"], "far": ["d", "e"]},
        {"in": [1.0, 2.0, 3.0], "far": [4321.0, np.inf]},
        threshold=3.0,
        levels=4,
    ),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", CASES)
def test_pictures_are_drawn(name):
    figure = CASES[name]()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    colours = np.unique(np.asarray(PIL.Image.open(buffer)).reshape(-1, 4), axis=0)
    assert len(colours) >= 4


def test_colours_stand_out_from_white():
    assert min(contrast(colour, "white") for colour in COLOURS) >= 3


@pytest.mark.parametrize(("shift", "side"), [(-1e6, "left"), (1e6, "right")])
def test_a_set_that_is_far_away_does_not_squash_the_histogram(shift, side):
    (axes,) = pictures.log_prob_histograms({"in": -INSIDE, "far": shift - INSIDE}, threshold=-2.0).axes
    assert axes.get_ylim()[1] < 0.2, "as high as the bars of the set inside"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["in", f"far: all further {side}", "threshold: abstains left of it"]
    assert [line.get_xdata()[0] for line in axes.get_lines()] == [-2.0]
    (axes,) = pictures.log_prob_histograms({"in": -INSIDE, "far": np.r_[-INSIDE, shift - INSIDE]}).axes
    assert axes.get_legend().get_texts()[1].get_text() == f"far: 50 % further {side}"


def test_histograms_without_values():
    for bad, message in [
        ({}, "no sets"),
        ({"in": np.full(3, -np.inf)}, "no finite value for 'in'"),
        ({"in": -INSIDE, "far": []}, r"no values for \['far'\]"),
    ]:
        with pytest.raises(ValueError, match=f"log_probs has {message}"):
            pictures.log_prob_histograms(bad)
    (axes,) = pictures.log_prob_histograms({"in": np.full(5, 2.0)}).axes
    assert axes.get_xlim() == (1, 3)


def test_scores_are_drawn_as_log_probs_are_the_other_way_round():
    (axes,) = pictures.log_prob_histograms({"in": -INSIDE, "far": -OUTSIDE["far"]}, threshold=-2.0).axes
    (mirror,) = pictures.score_histograms({"in": INSIDE, "far": OUTSIDE["far"]}, threshold=2.0).axes
    np.testing.assert_allclose(mirror.get_xlim(), -np.array(axes.get_xlim())[::-1])
    for log_prob, score in zip(axes.patches, mirror.patches, strict=True):
        np.testing.assert_allclose(score.get_data().values, log_prob.get_data().values[::-1])
        np.testing.assert_allclose(score.get_data().edges, -log_prob.get_data().edges[::-1])
    labels = [text.get_text() for text in mirror.get_legend().get_texts()]
    assert "threshold: abstains right of it" in labels
    assert mirror.lines[0].get_xdata()[0] == 2.0


def test_answers_without_their_texts():
    images = np.zeros((2, 1, 4, 1))
    with pytest.raises(ValueError, match="'in' has 2 images, 1 texts and 2 scores"):
        pictures.answers({"in": images}, {"in": ["a"]}, {"in": [1.0, 2.0]}, 0.0, 4)
    with pytest.raises(ValueError, match="images is empty"):
        pictures.answers({}, {}, {}, 0.0, 4)
    figure = pictures.answers({"in": images}, {"in": ["a", "b"]}, {"in": [1.0, 2.0]}, 0.0, 4)
    assert [axes.images[0].get_array().shape for axes in figure.axes] == [(1, 4), (1, 4)]


def test_answers_say_where_it_abstains():
    figure = CASES["answers"]()
    said = [axes.get_xlabel() for axes in figure.axes]
    assert said == [f"{v}\n{a}" for v, a in zip("123", 3 * ["answers"], strict=True)] + [
        "4,321\nabstains",
        "over 9,999\nabstains",
        "",
    ]


def test_the_same_figure_is_the_same_svg():
    first, second = (pictures.svg(pictures.roc_curves(INSIDE, {"far": OUTSIDE["far"]})) for _ in range(2))
    assert first.startswith("<svg") and "false positive rate" in first and first == second


def test_a_page_may_hold_several_svgs():
    texts = [pictures.svg(pictures.roc_curves(INSIDE, {name: OUTSIDE[name]})) for name in ("far", "endless")]
    ids = [set(re.findall(' id="(.*?)"', text)) for text in texts]
    assert not ids[0] & ids[1]
    for text, known in zip(texts, ids, strict=True):
        assert set(re.findall(r'href="#(.*?)"', text) + re.findall(r"url\(#(.*?)\)", text)) <= known


def test_a_saved_svg_is_the_embedded_one(tmp_path):
    pictures.save(CASES["roc_curves"](), tmp_path / "roc.svg")
    saved = (tmp_path / "roc.svg").read_text()
    assert "<dc:date>" not in saved and "false positive rate" in saved, "text stays text, and files repeat"


def test_reliability_shows_wilsons_interval():
    curve = classification.Reliability(np.array([0.9]), np.array([0.8]), np.array([50]))
    above, _ = pictures.reliability_diagram({"model": curve}).axes
    (segments,) = [c.get_segments()[0] for c in above.collections]
    np.testing.assert_allclose(segments[:, 1], [0.6696, 0.8876], atol=5e-4)  # Wilson 1927, 40 of 50


def test_the_style_stays_inside():
    before = dict(matplotlib.rcParams)
    CASES["roc_curves"]()
    assert dict(matplotlib.rcParams) == before


def test_roc_curves_show_the_rates_and_the_area():
    (axes,) = pictures.roc_curves(np.array([0.0, 1.0]), {"far": np.array([2.0, 0.5])}).axes
    line = axes.get_lines()[1]
    assert line.get_label() == "far: 0.7500"
    points = set(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert {(0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0)} >= points >= {(0.0, 0.5), (0.5, 1.0)}


def test_drift_pictures_show_the_largest_distance():
    (axes,) = pictures.drift_picture(np.arange(10.0), np.arange(5.0)).axes
    assert axes.get_legend().get_texts()[-1].get_text() == "largest distance 0.500"
    (axes,) = pictures.drift_picture(np.array([1.0, 2, 3]), np.r_[np.full(9, -np.inf), 2.0]).axes
    assert axes.get_legend().get_texts()[-1].get_text() == "largest distance 0.900"
    with pytest.raises(ValueError, match="new holds NaN"):
        pictures.drift_picture([1.0], [np.nan])


def test_extremes_are_the_most_and_the_least_likely():
    images = np.arange(30).reshape(30, 1, 1, 1) * np.ones((1, 2, 2, 1))
    figure = pictures.extremes(images, np.arange(30.0), 30, rows=1, columns=3)
    shown = [29 * axes.images[0].get_array().mean() for half in figure.subfigs for axes in half.axes]
    np.testing.assert_allclose(shown, [29, 28, 27, 0, 1, 2], atol=1e-6)
