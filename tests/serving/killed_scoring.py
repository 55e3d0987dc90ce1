"""Scores a file, kills and resumes: `python killed_scoring.py RUN ROWS FOLDER KILLS`.

Each scoring is a fork of this process, in which TensorFlow has not started yet. FOLDER/unbroken.parquet is written in
peace; FOLDER/killed.parquet by runs that are killed before or after one of the calls that write files, or while they
score, and by a last one that is not.
"""

import json
import os
import pathlib
import signal
import sys
import traceback

from tfp_hybrid import commands
from tfp_hybrid.commands import blocks, streaming

# A call, and the half of one of its calls at which a run is killed; the kills are the first of these.
PLACES = [("replace", 5), ("compute", 7), ("fsync", 12), ("replace", 1), ("replace", 4), ("fsync", 2)]
PLACES += [("compute", 1), ("fsync", 6), ("replace", 2), ("compute", 4), ("fsync", 3), ("compute", 9)]


def killed_at(owner, name, place):
    """Counts the halves of the calls of a function; SIGKILL at number `place`."""
    halves, call = 0, getattr(owner, name)

    def half():
        nonlocal halves
        halves += 1
        if halves == place:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(*args, **kwargs):
        half()
        result = call(*args, **kwargs)
        half()
        return result

    setattr(owner, name, counted)


def score(run, rows, out, name=None, place=None):
    """Scores in a fork of this process; returns its exit status."""
    child = os.fork()
    if not child:
        try:
            if name == "compute":
                from tfp_hybrid.serving.answers import Answers

                killed_at(Answers, name, place)
            elif name:
                killed_at(os, name, place)
            commands.score_file(run, rows, out)
        except BaseException:
            traceback.print_exc()
            os._exit(70)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(run, rows, folder, kills):
    blocks.ROWS, streaming._VALUES = 1000, 300
    assert score(run, rows, folder / "unbroken.parquet") == 0
    found = [score(run, rows, folder / "killed.parquet", *place) == -signal.SIGKILL for place in PLACES[:kills]]
    assert score(run, rows, folder / "killed.parquet") == 0
    (folder / "kills.json").write_text(json.dumps({"kills": sum(found)}))


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:4]), int(sys.argv[4]))
