"""The paper's experiments are not part of the installed package; they run from the root of the repository."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
