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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from medseg.core.errors import DataError, Problem
from medseg.core.files import WRITING, move, readable, replace_file
from medseg.data.cases.case import UNSAFE_NAME, Case, is_name
from medseg.data.files.digests import file_digest
from medseg.data.writers import AUTO, OWN
from medseg.data.writers.base import own_writer, writers_of
from medseg.engine.origin import ORIGIN, is_of_image, maker_and_image
from medseg.engine.places import SHOWN, Place, check_places, is_empty
from medseg.engine.staged import Staged

FORMATS = (AUTO,)
FILES, COMING = "files", "coming"  # keys of a sidecar: file -> digest of those that stand, and that were about to come


def mask_paths(folder: str | Path, name: str, image: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Where the masks of a case are saved, one a format.

    Args:
        image: the (first) file of its image.
    """
    return [writer.file(Path(folder), name) for writer in writers_of(Path(image), formats)]


def map_path(folder: str | Path, name: str, image: str | Path, which: str) -> Path:
    """Where a map of a case is saved (`which`: see `inference.maps.map_names`), in the image's own format."""
    return own_writer(Path(image)).file(Path(folder) / OWN, f"{name}_{which}")


def sidecar_path(folder: str | Path, name: str) -> Path:
    """Where it is written down what made the mask of a case, and how much of each target was found."""
    return Path(folder) / OWN / f"{name}.json"


def read_sidecar(folder: str | Path, name: str) -> dict[str, Any]:
    """The sidecar of a case; empty where there is none, a damaged one, or one whose files were still to come."""
    content = _sidecar(sidecar_path(folder, name)) or _sidecar(_older_sidecar(folder, name))
    return {} if COMING in content else content


def _sidecar(path: Path) -> dict[str, Any]:
    """Its content; empty where the file is missing, damaged, or another program's."""
    try:
        content = json.loads(readable(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or not {"case", "model"} <= content.keys():
        return {}
    sections = (content.get(key, {}) for key in (FILES, COMING, ORIGIN))
    return content if all(isinstance(section, dict) for section in sections) else {}


def is_damaged(sidecar: Path) -> bool:
    """Whether there is the sidecar of a case, but as no JSON: a machine that lost its power leaves such files."""
    try:
        json.loads(readable(sidecar).read_text(encoding="utf-8"))
    except ValueError:
        return True
    except OSError:
        pass
    return False


def _older_sidecar(folder: str | Path, name: str) -> Path:
    return Path(folder) / f"{name}.json"


def remove_older_sidecar(folder: str | Path, name: str) -> None:
    """Delete the sidecar that an older version wrote beside the mask, if there is one; no other program's."""
    older = _older_sidecar(folder, name)
    if _sidecar(older):
        older.unlink()


def remove_older_map(folder: str | Path, name: str, image: str | Path, which: str) -> None:
    """Delete the map that an older version wrote beside the mask.

    It is one where the case still has its older sidecar, and no case of the map's name has a mask there.
    """
    if _sidecar(_older_sidecar(folder, name)) and not read_sidecar(folder, f"{name}_{which}"):
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


@dataclass(frozen=True)
class Known:
    """What the sidecar of a case says of the files beside it.

    Args:
        digests: file, from the folder of the masks -> every digest that medseg wrote, or was about to write.
        by_name: any file of the case's names is medseg's: an older version wrote the sidecar, or it is damaged.
    """

    digests: Mapping[str, set[str]] = field(default_factory=dict)
    by_name: bool = False

    @classmethod
    def of(cls, folder: Path, name: str) -> Known:
        """That of a case, from its sidecar, an older one, or a damaged one."""
        path = sidecar_path(folder, name)
        content = _sidecar(path)
        if not content:
            return cls(by_name=is_damaged(path) or bool(_sidecar(_older_sidecar(folder, name))))
        digests = {file: {str(digest)} for file, digest in content.get(FILES, {}).items()}
        for file, several in content.get(COMING, {}).items():
            digests.setdefault(file, set()).update(map(str, several if isinstance(several, list) else ()))
        return cls(digests, by_name=FILES not in content)

    def wrote(self, folder: Path, file: Path) -> bool:
        """Whether medseg wrote what is in the file, and nobody changed it since."""
        return self.by_name or (file.is_file() and file_digest(file) in self.digests.get(_within(folder, file), ()))

    def names(self, folder: Path, file: Path) -> bool:
        """Whether medseg wrote a file of this name, which somebody may have changed."""
        return self.by_name or _within(folder, file) in self.digests


def _within(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


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
    before = _sidecar(sidecar)
    digests = {_within(folder, place): file_digest(file) for file, place in staged.files}
    former = before.get(FILES, {})
    if not known.by_name:  # else the sidecar that is there says that any of these files is medseg's
        coming = {file: sorted({*known.digests.get(file, ()), digest}) for file, digest in digests.items()}
        replace_file(sidecar, _text({"case": name, "model": content["model"], FILES: former, COMING: coming}))
    for file, place in staged.files:
        move(file, place)
    same = origin is not None and maker_and_image(before.get(ORIGIN, {})) == maker_and_image(origin)
    for place in _others(folder, name, former, digests):
        if same:
            digests[_within(folder, place)] = former[_within(folder, place)]
        elif file_digest(place) == former[_within(folder, place)]:
            place.unlink()
    replace_file(sidecar, _text({**content, FILES: digests}))
    remove_older_sidecar(folder, name)


def _others(folder: Path, name: str, former: Mapping[str, Any], digests: Mapping[str, str]) -> list[Path]:
    """The files of a case that an earlier commit wrote and this one does not; only such as can be a case's."""
    own = (folder, folder / OWN)
    places = [folder / file for file in former if file not in digests]
    return [one for one in places if one.parent in own and one.name.startswith(name) and _plain(one)]


def _plain(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _place(folder: Path, path: Path, name: str, ours: bool, changed: bool = False) -> Place:
    below = folder / OWN if path.is_relative_to(folder / OWN) else folder
    place = partial(Place, path, below, name, folder, ours)
    return place(foreign="was changed since medseg wrote it") if changed else place()


def _sidecar_place(folder: Path, name: str) -> Place:
    path = sidecar_path(folder, name)
    return _place(folder, path, name, bool(_sidecar(path)) or is_damaged(path))


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
        files = [
            _place(self.folder, file, name, known.wrote(self.folder, file), known.names(self.folder, file))
            for file in self.files
        ]
        return [*files, _sidecar_place(self.folder, name)]

    def inputs(self) -> list[Path]:
        """What is read, but for files that it names itself: those are nobody's that medseg wrote."""
        return [Path(path) for path in self.case.files]

    def finished(self) -> bool:
        """Whether all is there and as it was written, from these weights, this image and these options."""
        sidecar = read_sidecar(self.folder, self.case.name)
        if not sidecar or any(not file.is_file() or is_empty(file) for file in self.files):
            return False
        files = sidecar.get(FILES)
        if not self.same_origin():
            return False
        if files is None:  # an older version's, which says nothing of them
            return self.maker is None
        return all(files.get(_within(self.folder, file)) == file_digest(file) for file in self.files)

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
    return [output.case for output in outputs if overwrite or not output.finished()]


def has_sidecars(folder: Path) -> bool:
    """Whether medseg wrote the mask of some case in a folder."""
    return any(_sidecar(file) for file in (*(folder / OWN).glob("*.json"), *folder.glob("*.json")))


def foreign_files(folder: Path) -> list[Path]:
    """The files in a folder of masks, and below it, that medseg did not write, by their names."""
    sidecars = [*(folder / OWN).glob("*.json"), *folder.glob("*.json")]
    names = [file.stem for file in sidecars if _sidecar(file) or (file.parent != folder and is_damaged(file))]
    known = {name: Known.of(folder, name) for name in names}
    listed = {file for one in known.values() for file in one.digests}
    older = tuple(f"{name}{end}" for name, one in known.items() if one.by_name for end in "._")
    ours = {sidecar for file in names for sidecar in (sidecar_path(folder, file), _older_sidecar(folder, file))}

    def foreign(file: Path) -> bool:
        plain = file not in ours and _within(folder, file) not in listed
        return plain and not file.name.startswith((WRITING, *older))

    return sorted(file for file in folder.rglob("*") if not file.is_dir() and foreign(file))


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
