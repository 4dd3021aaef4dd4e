"""`medseg predict`: masks for images, on their own grids; one bad scan never stops a cohort.

A prediction goes from the run's folder to its config and data facts, to a compiled inference, to the cohort. Nothing of
the run is written, and its bundle's YAML is not executed.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.bundle.ensemble import compile_members
from medseg.bundle.facts import reading_as
from medseg.bundle.run import run_compiled
from medseg.config.coding import recode, recoded
from medseg.core.errors import DataError, PartialFailure, Problem
from medseg.core.files import replace_file
from medseg.core.written import is_known
from medseg.data.cases.case import Case
from medseg.data.cases.dataset import list_inputs
from medseg.data.cases.kinds import other_scan
from medseg.data.files.dicom import is_study, modality
from medseg.data.writers import AUTO, WRITERS
from medseg.data.writers.base import About, about_masks
from medseg.engine.cohort import FAILURES, CohortReport, is_failures, write_failures
from medseg.engine.device import of_first, of_first_process, process_group, rank
from medseg.engine.memory import peak_memory_text
from medseg.engine.outputs import FORMATS, OWN, LookedUp, look_up, mask_paths, say_unfinished
from medseg.engine.places import ELSEWHERE, Place, check_places, door
from medseg.inference.maps import map_names
from medseg.runs.decision import say_cleaning
from medseg.runs.kept import predicted_by
from medseg.runs.members import as_folders, channels_by_name, read_members
from medseg.runs.volumes import VOLUMES, is_volumes, read_volumes, volume_text, write_volumes

ANY_SCAN = "use a network for such scans; --any-scan predicts them all the same"


def predict(
    run: str | Path | Sequence[str | Path],
    *,
    input: str | Path,
    output: str | Path,
    overwrite: bool = False,
    postprocess: bool = True,
    coding: str | None = None,
    formats: Sequence[str] = FORMATS,
    probabilities: bool = False,
    uncertainty: bool = False,
    any_scan: bool = False,
) -> list[Path]:
    """Predict the masks of a file, a folder of images, or a data set.

    Args:
        run: the folder of a trained run; several, or a folder of folds, predict by the mean of their logits.
        input: one image, a folder of images (`{case}_0000` for one channel a file), or a data set in any layout. Cases
            may lack channels where every run was trained for it (`training.channel_dropout`).
        output: folder of the masks `{case}.nii.gz` (of pictures: `{case}.png`) and of `volumes.csv`; sidecars, maps and
            `failed.csv` are in `medseg/` in it.
        overwrite: predict cases again that have a mask in `output`; default: skip those whose mask, and maps, are
            finished: by these weights, of this image, by these options. No file is replaced that medseg did not write,
            or that somebody changed since: its case is left as it is, and said.
        postprocess: False leaves out what `medseg postprocess` decided.
        coding: values in the masks, see `config.coding`; default: `inference.coding` of the run.
        formats: of the masks, names in `medseg.data.writers.WRITERS`; "auto" is an image's own, "bids" makes the folder
            a derivative data set of BIDS.
        probabilities: also a map of each target's probability, `{case}_probability_{target}`, before the mask is
            cleaned; NIfTI that is read as 0 to 1, of pictures 8-bit grey PNG.
        uncertainty: also `{case}_entropy`, from 0 to 1, and of an ensemble `{case}_disagreement`, from 0 to 0.5
            (formulas: `medseg.inference.maps`).
        any_scan: also DICOM series whose headers say another kind of scan (CT, MR, PT) than the network was trained on.

    Returns:
        The masks of all cases that have one now, in the first format.

    Raises:
        PartialFailure: some cases failed, which are listed in `output/medseg/failed.csv`, or were changed by somebody.
        MedsegError: a folder is no trained run, the runs do not predict the same, there is no image at `input`, its
            targets do not fit the coding, or a mask would take the place of another file.
    """
    started = time.perf_counter()
    source, output = Path(input), Path(output)
    members = read_members(as_folders(run), postprocess)
    facts = members[0].facts
    wishes: dict[str, Any] = {"overwrite": overwrite, "probabilities": probabilities, "uncertainty": uncertainty}
    wishes["formats"] = [name for name in formats if name == AUTO or WRITERS.find(name, "--format")]
    if coding is not None:
        wishes["recode"] = [list(pair) for pair in recode(facts.labels, coding).items()]
    content = {**compile_members("inference", members), **wishes}
    with reading_as(members[0].config):
        cases = tuple(list_inputs(source, len(facts.channels), channels_by_name(members), facts.channels))
        written = recoded(facts.labels, dict(content["recode"]))
        about = about_masks(wishes["formats"], [case.name for case in cases], written)
        maps = map_names(facts.labels, probabilities, uncertainty, members=len(members))
        with process_group(), of_first(door(output, account=[one.name for one in about])):
            maker = of_first_process(lambda: predicted_by(members, content))
            asked: dict[str, Any] = {"maps": maps, "formats": wishes["formats"], "maker": maker}
            found = of_first_process(lambda: _begin(cases, output, overwrite, asked, about))
            pending = found.pending
            refused = [] if any_scan else of_first_process(lambda: other_scans(pending, facts.kinds))
            pending = [case for case in pending if case.name not in {problem.where for problem in refused}]
            say_cleaning(members[0].config)
            if len(members) > 1 and rank() == 0:
                print(f"ensemble of {len(members)} networks")
            objects = {"cases": tuple(pending), "origin": maker, "output_dir": str(output)}
            cohort: CohortReport = run_compiled(content, **objects).get_parsed_content("cohort")
            left = {*found.changed, *(case.name for case in found.pending)} - set(cohort.finished)
            done = {
                case.name: mask_paths(output, case.name, case.first, formats)[0]
                for case in cases
                if case.name not in left
            }
            if rank() == 0:
                _tell(cohort, done, output, maps)
                for name, warning in cohort.warnings:
                    print(f"warning: {name}: {warning}")
                if refused:
                    failures = [Problem(failure.case, failure.reason) for failure in cohort.failures]
                    write_failures(output / OWN, [*failures, *refused])
                if lacking := [case for case in cases if case.missing and case.name in done]:
                    print(lacking_text(lacking, facts.channels))
                print(f"{time.perf_counter() - started:.1f} s, {peak_memory_text()}")
        masks = list(done.values())
        problems = [*found.problems(), *(Problem(f.case, f.reason) for f in cohort.failures), *refused]
        if failed := len(cohort.failures) + len(refused):
            problems.append(Problem(str(output / OWN / FAILURES), f"{failed} of {len(cases)} cases failed"))
        if problems:
            raise PartialFailure(problems, result={"masks": [str(mask) for mask in masks]})
        return masks


def _begin(
    cases: Sequence[Case], output: Path, overwrite: bool, asked: Mapping[str, Any], about: Sequence[About]
) -> LookedUp:
    """What has to be predicted; nothing in the folder will be replaced but medseg's own, as medseg wrote it."""
    volumes, failed = output / VOLUMES, output / OWN / FAILURES
    places = [Place(volumes, output, "the volumes", output, is_volumes(volumes))]
    places.append(Place(failed, failed.parent, "the failures", output, is_failures(failed)))
    for file in (output / one.name for one in about):
        places.append(Place(file, output, "all masks", output, is_known(output, file)))
    check_places(places)
    found = look_up(cases, output, overwrite, **asked)
    for line in [] if overwrite else say_unfinished(found.pending, output, asked["maker"]):
        print(line)
    _write_about(about, output)
    return found


def _write_about(about: Sequence[About], output: Path) -> None:
    """Write what speaks of all masks, before any of them; raises DataError where it would be false of those there."""
    texts = {one.name: one.text.encode() for one in about}
    there = {name: (output / name).read_bytes() for name in texts if (output / name).is_file()}
    if others := [one.name for one in about if one.lasting and there.get(one.name) not in (None, b"", texts[one.name])]:
        what = "says that the masks here have other classes than those that would be added"
        raise DataError([Problem(str(output / name), what, ELSEWHERE) for name in others])
    for one in about:
        if there.get(one.name) != texts[one.name]:
            replace_file(output / one.name, one.text)


def other_scans(cases: Sequence[Case], kinds: Sequence[str | None]) -> list[Problem]:
    """The cases whose DICOM headers say another kind of scan than the network was trained on.

    No header is read for a channel whose kind the network does not know.
    """
    found = []
    for case in cases:
        said = [_kind(path) if own else None for path, own in zip(case.images, kinds, strict=False)]
        if why := other_scan(said, kinds):
            found.append(Problem(case.name, why, ANY_SCAN))
    return found


def _kind(path: str | None) -> str | None:
    """What a DICOM header says; None where there is none, or one that cannot be read, which is said later."""
    if path is not None and is_study(Path(path)):
        with contextlib.suppress(DataError):  # the series is read again, and said then
            return modality(Path(path))
    return None


def lacking_text(cases: Sequence[Case], channels: Sequence[str]) -> str:
    """How many cases lack channels, and how many each of them."""
    times = Counter(channels[number] for case in cases for number in case.missing)
    each = ", ".join(f"{name} {times[name]}" for name in channels if name in times)
    return f"{len(cases)} of the cases lack channels: {each}"


def _tell(cohort: CohortReport, done: dict[str, Path], output: Path, maps: Sequence[str]) -> None:
    """Volumes as a file and in words, and what there is now."""
    if volumes := read_volumes(output, list(done)):
        write_volumes(volumes, output)
        print(volume_text(volumes))
    if maps:
        print(f"maps of each case: {', '.join(maps)}")
        if "entropy" in maps and "disagreement" not in maps:
            print("no map of disagreement: a single network has nobody to disagree with; give several --run")
    print(f"{len(cohort.finished)} cases predicted, {len(done)} masks in {output}")
