"""The caches of a training: filled by all its processes, and what there is to say of their cases said once, by one."""

from __future__ import annotations

from pathlib import Path

from medseg.core.errors import DataError
from medseg.data.cases.judge import say
from medseg.data.training.cache import CachedDataset
from medseg.engine.device import gather, in_shares, rank


def fill_caches(run: str, training: CachedDataset, held_out: CachedDataset | None = None) -> None:
    """Make every entry, then say what `check` would of the cases; also where some cases fail, of the others.

    Args:
        run: folder of the training; where its checkpoint is there, it has said all of the entries that it finds.
        held_out: a process's own share of the cases that are held out; None: there are none.

    Raises:
        DataError: of all cases of one of the two that failed, in every process.
    """
    failure = None
    try:
        in_shares(training.fill)
        if held_out is not None:
            in_shares(lambda share, shares: held_out.fill())
    except DataError as error:  # the same in all processes, so that none waits for another
        failure = error
    resumed = (Path(run) / "models" / "checkpoint.pt").is_file()
    parts = [] if held_out is None else [held_out]  # each process has others of them, and all cases of the training
    made = set(gather([name for part in (training, *parts) for name in part.made]))
    parts += [training] if rank() == 0 or failure is not None else []  # who failed has opened its own share alone
    facts = gather([one for part in parts for one in part.facts() if not resumed or one.case in made])
    if rank() == 0 and facts:
        say({one.case: one for one in facts}.values(), compared=not resumed and failure is None)
    if failure is not None:
        raise failure
