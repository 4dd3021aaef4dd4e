"""What stands where in a folder of results: masks by their writers, and in `medseg/` all that is medseg's own.

Beside masks stand masks only (and `volumes.csv`), so that other programs' evaluators and converters read the folder: a
sidecar `case.json` there would be taken for dcm2niix's or nnU-Net's own.

A case's files are committed together (`commit`): they are written under other names, the sidecar says which files come,
they take their places, and last the sidecar says what made them, with the digest of each. So a file is medseg's where a
sidecar knows its digest, and a mask is finished where its sidecar names these weights, this image and these options.

Once everything stood beside the masks. Such outputs are read as before, and each goes when it is written anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medseg.core.errors import DataError, Problem
from medseg.core.files import move, readable, replace_file
from medseg.core.parallel import every_result
from medseg.data.cases.case import UNSAFE_NAME, Case, is_name
from medseg.data.files.digests import file_digest
from medseg.data.writers import AUTO, OWN, WRITERS
from medseg.data.writers.base import own_writer, writer_of, writers_of
from medseg.engine.origin import ORIGIN, is_of_image, maker_and_image
from medseg.engine.places import SHOWN, Place, check_places, is_empty
from medseg.engine.sidecar import (
    COMING,
    FILES,
    Known,
    is_damaged,
    is_plain,
    older_sidecar,
    own_sidecar,
    read_sidecar,
    remove_older_sidecar,
    sidecar_path,
    within,
)
from medseg.engine.staged import Staged

FORMATS = (AUTO,)


def mask_paths(folder: str | Path, name: str, image: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Where the masks of a case are saved, one a format.

    Args:
        image: the (first) file of its image.
    """
    return [writer.file(Path(folder), name) for writer in writers_of(Path(image), formats)]


def map_path(folder: str | Path, name: str, image: str | Path, which: str) -> Path:
    """Where a map of a case is saved (`which`: see `inference.maps.map_names`), in the image's own format."""
    return own_writer(Path(image)).file(Path(folder) / OWN, f"{name}_{which}")


def remove_older_map(folder: str | Path, name: str, image: str | Path, which: str) -> None:
    """Delete the map that an older version wrote beside the mask.

    It is one where the case still has its older sidecar, and no case of the map's name has a mask there.
    """
    if own_sidecar(older_sidecar(folder, name)) and not read_sidecar(folder, f"{name}_{which}"):
        own_writer(Path(image)).file(Path(folder), f"{name}_{which}").unlink(missing_ok=True)


def remove_older_table(folder: Path, name: str, header: str) -> None:
    """Delete the table that an older version wrote beside the masks, by its name and its first line.

    Args:
        folder: of what is medseg's own; any other has no older one.
    """
    older = folder.parent / name
    if folder.name != OWN or not older.is_file():
        return
    with readable(older).open(encoding="utf-8", errors="replace") as file:
        ours = file.readline().strip() == header
    if ours:
        older.unlink()


def commit(folder: Path, name: str, staged: Staged, content: Mapping[str, Any], origin: Any = None) -> None:
    """Put a case's files into their places and write its sidecar; killed at any moment, all of it can be done again.

    A file of the case by another origin, which is not written anew, would pass for one of this: it goes, if it is as
    medseg wrote it.

    Args:
        folder: of the masks.
        content: of the sidecar.
        origin: what makes the files and their image, as in `origin.py`, without the digest of the mask.

    Raises:
        DataError: a file is in the way that medseg did not write.
    """
    known, sidecar = Known.of(folder, name), sidecar_path(folder, name)
    places = [_place(folder, place, name, known.names(folder, place)) for _, place in staged.files]
    check_places([*places, _sidecar_place(folder, name)])
    before = own_sidecar(sidecar)
    digests = {within(folder, place): file_digest(file) for file, place in staged.files}
    former = before.get(FILES, {})
    if not known.by_name:  # else the sidecar that is there says that any of these files is medseg's
        coming = {file: sorted({*known.digests.get(file, ()), digest}) for file, digest in digests.items()}
        replace_file(sidecar, _text({"case": name, "model": content["model"], FILES: former, COMING: coming}))
    for file, place in staged.files:
        place.parent.mkdir(parents=True, exist_ok=True)
        move(file, place)
    same = origin is not None and maker_and_image(before.get(ORIGIN, {})) == maker_and_image(origin)
    for place in _others(folder, name, former, digests):
        if same:
            digests[within(folder, place)] = former[within(folder, place)]
        elif file_digest(place) == former[within(folder, place)]:
            place.unlink()
    replace_file(sidecar, _text({**content, FILES: digests}))
    remove_older_sidecar(folder, name)


def _others(folder: Path, name: str, former: Mapping[str, Any], digests: Mapping[str, str]) -> list[Path]:
    """The files of a case that an earlier commit wrote and this one does not; only such as can be a case's."""
    own, masks = (folder, folder / OWN), {writer_of(one).file(folder, name) for one in WRITERS.own}
    places = [folder / file for file in former if file not in digests]
    cases = [one for one in places if one in masks or (one.parent in own and one.name.startswith(name))]
    return [one for one in cases if is_plain(one)]


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _place(folder: Path, path: Path, name: str, ours: bool) -> Place:
    below = folder / OWN if path.is_relative_to(folder / OWN) else folder
    if below == folder and is_name(name) and path.is_relative_to(folder) and ".." not in path.parts:
        below = path.parent  # the folder that the writer chose
    return Place(path, below, name, folder, ours)


def _sidecar_place(folder: Path, name: str) -> Place:
    path = sidecar_path(folder, name)
    return _place(folder, path, name, bool(own_sidecar(path)) or is_damaged(path))


@dataclass(frozen=True)
class CaseOutputs:
    """What a prediction writes of one case, and what of it is there already.

    Args:
        folder: of the masks.
        maps: names of the maps.
        formats: of the masks.
        maker: who makes the masks (`runs.kept.made_by`); None: whoever it was.
    """

    folder: Path
    case: Case
    maps: Sequence[str] = ()
    formats: Sequence[str] = FORMATS
    maker: Mapping[str, str] | None = None

    @property
    def files(self) -> list[Path]:
        """Masks and maps."""
        name, image = self.case.name, self.case.first
        maps = [map_path(self.folder, name, image, one) for one in self.maps]
        return [*mask_paths(self.folder, name, image, self.formats), *maps]

    def places(self) -> list[Place]:
        """Where it is written to, the sidecar too."""
        known, name = Known.of(self.folder, self.case.name), self.case.name
        files = [_place(self.folder, file, name, known.names(self.folder, file)) for file in self.files]
        return [*files, _sidecar_place(self.folder, name)]

    @cached_property
    def changed(self) -> list[Path]:
        """The files that medseg wrote and somebody changed since, which are read for it (once)."""
        known = Known.of(self.folder, self.case.name)
        return [file for file in self.files if known.changed(self.folder, file)]

    def inputs(self) -> list[Path]:
        """What is read, but for files that it names itself: those are nobody's that medseg wrote."""
        return [Path(path) for path in self.case.files]

    def finished(self) -> bool:
        """Whether all is there, from these weights, this image and these options, and as it was written."""
        sidecar = read_sidecar(self.folder, self.case.name)
        if not sidecar or any(not file.is_file() or is_empty(file) for file in self.files):
            return False
        files = sidecar.get(FILES)
        if not self.same_origin():
            return False
        if files is None:  # an older version's, which says nothing of them
            return self.maker is None
        return all(within(self.folder, file) in files for file in self.files) and not self.changed

    def same_origin(self) -> bool:
        """Whether the sidecar names these weights, this image and these options."""
        if self.maker is None:
            return True
        origin = read_sidecar(self.folder, self.case.name).get(ORIGIN, {})
        return self.maker.items() <= origin.items() and is_of_image(origin, self.case.images)


def pending_cases(
    cases: Sequence[Case],
    output_dir: str | Path,
    overwrite: bool = False,
    maps: Sequence[str] = (),
    formats: Sequence[str] = FORMATS,
    maker: Mapping[str, str] | None = None,
) -> list[Case]:
    """The cases whose mask, or one of whose maps, is not finished in `output_dir` yet (all of them if `overwrite`).

    Raises:
        DataError: as `look_up`.
    """
    found = look_up(cases, output_dir, overwrite, maps, formats, maker)
    for problem in found.problems():
        print(problem)
    return found.pending


@dataclass(frozen=True)
class LookedUp:
    """What there is to do in a folder of masks.

    Args:
        pending: cases that have to be predicted.
        changed: case -> a file of it that somebody changed since medseg wrote it, for which the case is left as it is.
    """

    pending: list[Case]
    changed: dict[str, Path]

    def problems(self) -> list[Problem]:
        """What to say of those that were changed."""
        what, remedy = "was changed since medseg wrote it, and is left as it is", "move it away, to predict it again"
        return [Problem(str(file), what, remedy) for file in self.changed.values()]


def look_up(
    cases: Sequence[Case],
    output_dir: str | Path,
    overwrite: bool = False,
    maps: Sequence[str] = (),
    formats: Sequence[str] = FORMATS,
    maker: Mapping[str, str] | None = None,
) -> LookedUp:
    """As `pending_cases`, with what is not done.

    Args:
        maker: who makes the masks (`runs.kept.made_by`); None: masks by anybody are finished.

    Raises:
        DataError: a file would be replaced that medseg did not write, or that is read; two of one name; a name that
            leads out of the folder; before anything is predicted.
    """
    folder = Path(output_dir)
    if unsafe := [case for case in cases if not is_name(case.name)]:
        raise DataError([Problem(case.first, f"is called {case.name!r}", UNSAFE_NAME) for case in unsafe[:SHOWN]])
    outputs = [CaseOutputs(folder, case, maps, formats, maker) for case in cases]
    check_places(
        (place for output in outputs for place in output.places()),
        (file for output in outputs for file in output.inputs()),
    )
    left = every_result(lambda one: bool(one.changed) or (not overwrite and one.finished()), outputs)
    pending = [output.case for output, done in zip(outputs, left, strict=True) if not done]
    return LookedUp(pending, {one.case.name: one.changed[0] for one in outputs if one.changed})


def say_unfinished(cases: Sequence[Case], folder: Path, maker: Mapping[str, str] | None = None) -> list[str]:
    """Lines that say why cases with a mask by medseg are predicted again.

    Args:
        cases: that are not finished.
        maker: as of `pending_cases`.
    """
    damaged = [sidecar for case in cases if is_damaged(sidecar := sidecar_path(folder, case.name))]
    lines = [f"{sidecar}: is damaged, so its case is predicted again" for sidecar in damaged]
    there = [case for case in cases if read_sidecar(folder, case.name)]
    if others := [case.name for case in there if not CaseOutputs(folder, case, maker=maker).same_origin()]:
        what = "masks are by other weights, of another image, or by other options"
        lines.append(f"{len(others)} {what}: predicted again ({', '.join(others[:3])}{', ...' * (len(others) > 3)})")
    return lines
