"""The files of results: what is measured, when, and what they say of it."""

import numpy as np
import pytest

from paper import results
from paper.results import Job, Place
from tfp_hybrid import files


def test_jobs_by_name_and_results_of_other_settings(tmp_path):
    place = Place(tmp_path, "test")
    jobs = {name: Job({"seed": 0}, lambda: {"rmse": 1.0}) for name in ("one", "two")}
    place.obtain(jobs, ["two"])
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["two.json"]
    with pytest.raises(ValueError, match="--only 'three' is unknown; wanted one of one, two"):
        place.obtain(jobs, ["three"])
    other = jobs | {"two": Job({"seed": 1}, lambda: {})}
    for only in ([], ["one"]):
        with pytest.raises(ValueError, match=r"two.json has other settings \(seed\)"):
            place.obtain(other, only)
    (tmp_path / "two.json").unlink()
    with pytest.raises(ValueError, match=r"models/two has other settings \(seed\)"):
        place.obtain(other)
    with pytest.raises(
        ValueError, match="one starts from .*models/zero/model.keras, which does not exist. Run zero first"
    ):
        place.obtain({"zero": jobs["one"], "one": Job({}, lambda: {}, ("zero",))}, ["one"])
    assert not (tmp_path / "one.json").exists(), "nothing is measured before all is checked"


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", r"is damaged: Expecting"),
        ("[]", r"is damaged: it holds \[\]; wanted a JSON object"),
        ('{"name": "one"}', "is not a result; wanted name, command"),
        ('{"name": "one", "command": "", "settings": null, "metrics": {}, "seconds": 1.0, "versions": {}}', "wanted"),
        ('{"name": "one", "command": "", "settings": {}, "metrics": {}, "seconds": 1.0, "versions": {}}', "no metrics"),
    ],
)
def test_damaged_results_are_named(text, message, tmp_path):
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(ValueError, match=f"one.json.* {message}.*[Rr]emove (it|the file)"):
        Place(tmp_path, "test").obtain({"one": Job({}, lambda: {"rmse": 1.0})})


def test_seconds_of_a_result_count_those_before_an_interruption(tmp_path):
    place = Place(tmp_path, "test")
    files.write(place.model_folder("one") / "history.csv", "epoch,loss,seconds\n1,0.5,60.0\n2,0.4,100.0\n")
    place.obtain({"one": Job({}, lambda: {"rmse": 1.0})})
    assert 100 <= results.load(tmp_path / "one.json").seconds < 200


def test_a_model_is_measured_by_one_process_at_a_time(tmp_path):
    place, jobs = Place(tmp_path, "test"), {name: Job({}, lambda: {"rmse": 1.0}) for name in ("one", "two")}
    with files.locked(place.model_folder("one")):
        with pytest.raises(ValueError, match="one is in use by process"):
            place.obtain(jobs)
        place.obtain(jobs, ["two"])
    assert results.load_all(tmp_path).keys() == {"two"}


def test_a_result_that_was_being_written_is_none(tmp_path):
    (tmp_path / ".new_one.json").write_text("{")
    assert results.load_all(tmp_path) == {}


def test_models_come_after_those_that_they_start_from(tmp_path):
    measured = []
    jobs = {
        "first": Job({}, lambda: measured.append("first") or {"rmse": 1.0}),
        "second": Job({}, lambda: measured.append("second") or {"rmse": 1.0}, ("first",)),
    }
    Place(tmp_path, "test").obtain(jobs, ["second", "first", "second"])
    assert measured == ["first", "second"]


def test_results_of_a_trial_run_are_not_taken_for_others(tmp_path):
    jobs = {"one": Job({}, lambda: {"rmse": 1.0})}
    Place(tmp_path, "test", quick=True).obtain(jobs)
    with pytest.raises(ValueError, match=r"one.json has other settings \(quick\)"):
        Place(tmp_path, "test").obtain(jobs)


def test_the_lowest_densities_are_gathered_in_one_bin():
    values = np.concatenate([np.full(30, -1e6), np.linspace(-50, -40, 970)])
    kept = results.histograms({"train": values}, lowest=-50.0)
    assert kept["edges"][0] == -50 and kept["train"]["histogram"][0] >= 0.03
    assert kept["train"]["mean"] == pytest.approx(values.mean()), "of the values as they are"
