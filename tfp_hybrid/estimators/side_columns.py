"""Columns of a table that the head sees and the density does not: ids of groups, and an offset."""

import numpy as np

from tfp_hybrid import heads
from tfp_hybrid.heads.side_input_head import number_column
from tfp_hybrid.models import side_inputs
from tfp_hybrid.tables import frames

_RESERVED = (side_inputs.X, side_inputs.KEY)  # what a dict of inputs calls the other columns


def names_of(groups) -> list[str]:
    """Returns the names of the columns of groups, given as one name, a list of names, or None.

    Raises:
      ValueError: If `groups` is something else, or names a column twice.
    """
    names = [groups] if isinstance(groups, str) else [] if groups is None else groups
    is_list = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    if not is_list or len(set(names)) < len(names):
        raise ValueError(f"groups is {groups!r}; wanted the name of a column of X, or a list of different names.")
    return list(names)


def split(X, groups: list[str], offset: str | None) -> tuple:
    """Splits a table into the columns of the density, and the others by name.

    Args:
      X: A DataFrame.
      groups: The names of the columns of ids.
      offset: The name of the column that is the offset, or None.

    Returns:
      The DataFrame without these columns, and a dict of arrays `(n,)`.

    Raises:
      ValueError: If a column is absent, or if no other column is left.
    """
    wanted = {name: "groups" for name in groups} | ({} if offset is None else {offset: "offset"})
    columns = frames.column_names(X, "X")
    for name, argument in wanted.items():
        if name not in columns:
            raise ValueError(f"{argument} has {name!r}, which is not a column of X; wanted one of {list(columns)}.")
        if name in _RESERVED:
            raise ValueError(f"{argument} has {name!r}, which stands for the other columns; wanted another name.")
    if offset in groups:
        raise ValueError(f"offset is {offset!r}, which is one of the groups; wanted another column.")
    if len(wanted) == len(columns):
        raise ValueError(f"X has the columns {list(columns)} alone; wanted others beside groups and offset.")
    others = X.iloc[:, [place for place, name in enumerate(columns) if name not in wanted]]
    return others, {name: X.iloc[:, columns.index(name)].to_numpy() for name in wanted}


def checked_groups(side: dict[str, np.ndarray], offset: str | None) -> dict[str, heads.Group]:
    """Returns the groups among side inputs from `split`, whose ids are all levels.

    Raises:
      ValueError: If an id is missing or is no id, if there are fewer than two levels, or if the offset is not numbers.
    """
    if offset is not None:
        number_column(side[offset], offset, "X")
    groups = {}
    for name, ids in side.items():
        if name != offset:
            try:
                groups[name] = heads.Group(ids)
            except ValueError as error:
                raise ValueError(str(error).replace("Group: `levels`", f"X: {name!r}")) from None
    return groups


def head_with(head: heads.Head, groups: dict[str, heads.Group], offset: str | None, rows: int) -> heads.Head:
    """Returns a head with an offset, if there is one, and random effects of groups, if there are any.

    Args:
      head: The head inside.
      groups: The groups by name.
      offset: The name of the side input that is the offset, or None.
      rows: The number of training rows.
    """
    if offset is not None:
        head = heads.Offset(head, offset=offset)
    return heads.MixedEffects(head, groups, train_size=rows) if groups else head
