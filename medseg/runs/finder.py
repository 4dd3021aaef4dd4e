"""The first of two stages, in the folder `finder` of a run: a run of its own, without an evaluation.

It learns on the cases that the run learns on, and is finished before the second stage begins.
"""

from __future__ import annotations

from medseg.bundle.run import run_compiled
from medseg.bundle.trained import Trained
from medseg.engine.device import of_first_process, speaks
from medseg.engine.resume import CHECKPOINT
from medseg.runs.folder import Opened
from medseg.runs.spent import Spent, read_spent


def train_finder(finder: Trained, opened: Opened) -> Spent | None:
    """Train it, or go on, unless the second stage has begun: that is validated in the regions which the finder gave.

    Args:
        opened: the run that it is the first stage of.

    Returns:
        What it took, in all sittings; None where that is not known any more.
    """
    if not (opened.run.folder / "models" / CHECKPOINT).exists():
        if speaks():
            print(f"first stage: finds the region, on voxels of {finder.config.preprocessing.spacing_mm} mm")
        parser = run_compiled(finder.compiled("train"), data=opened.dataset, split=opened.split)
        spent = Spent.of(parser.get_parsed_content("budget"))
        of_first_process(lambda: spent.write(finder.folder))  # the others wait for its weights
        if speaks():
            print("second stage: delineates in it")
    return read_spent(finder.folder)
