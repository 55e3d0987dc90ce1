"""Columns of a DataFrame as the event of a flow: numbers, categories, circles, dates and holes.

`Columns.from_frame` learns what the columns hold, and is a bijector that goes in front of a flow.
"""

from tfp_hybrid.tables.columns import Columns
from tfp_hybrid.tables.inference import infer_kinds
from tfp_hybrid.tables.kinds import Category, Circle, Clock, Date, Kind, Number

__all__ = ["Category", "Circle", "Clock", "Columns", "Date", "Kind", "Number", "infer_kinds"]
