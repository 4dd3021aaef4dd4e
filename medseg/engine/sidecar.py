"""The sidecar of a case: what made its mask, and which files in the folder are medseg's, by their digests.

Once everything stood beside the masks. Such sidecars are read as before, and each goes when it is written anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from medseg.core.files import WRITING, readable
from medseg.data.files.digests import file_digest
from medseg.data.writers import OWN
from medseg.engine.origin import ORIGIN
from medseg.engine.places import is_empty

FILES, COMING = "files", "coming"  # keys of a sidecar: file -> digest of those that stand, and that were about to come
LATER = 2.0  # seconds between a file and its sidecar, written next, which the coarsest times of a disk can make of less


def sidecar_path(folder: str | Path, name: str) -> Path:
    """Where it is written down what made the mask of a case, and how much of each target was found."""
    return Path(folder) / OWN / f"{name}.json"


def read_sidecar(folder: str | Path, name: str) -> dict[str, Any]:
    """The sidecar of a case; empty where there is none, a damaged one, or one whose files were still to come."""
    content = own_sidecar(sidecar_path(folder, name)) or own_sidecar(older_sidecar(folder, name))
    return content if COMING not in content and _is_as_written(content) else {}


class _Read(BaseModel):
    """What medseg reads of a sidecar again, each of its type."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    model: dict[str, Any]
    volume_ml: dict[str, float] | None = None


def _is_as_written(content: dict[str, Any]) -> bool:
    """Whether what is read of the sidecar again can be that of medseg."""
    try:
        _Read.model_validate(content)
    except ValidationError:
        return False
    return True


def own_sidecar(path: Path) -> dict[str, Any]:
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


def older_sidecar(folder: str | Path, name: str) -> Path:
    return Path(folder) / f"{name}.json"


def remove_older_sidecar(folder: str | Path, name: str) -> None:
    """Delete the sidecar that an older version wrote beside the mask, if there is one; no other program's."""
    older = older_sidecar(folder, name)
    if own_sidecar(older):
        older.unlink()


@dataclass(frozen=True)
class Known:
    """What the sidecar of a case says of the files beside it.

    Args:
        digests: file, from the folder of the masks -> every digest that medseg wrote, or was about to write.
        written: when a sidecar was that tells no digests, since an older version wrote it, or it is damaged: then any
            file of the case's names is medseg's, and those that are younger were changed. Else None.
    """

    digests: Mapping[str, set[str]] = field(default_factory=dict)
    written: float | None = None

    @classmethod
    def of(cls, folder: Path, name: str) -> Known:
        """That of a case, from its sidecar, an older one, or a damaged one."""
        path, older = sidecar_path(folder, name), older_sidecar(folder, name)
        content = own_sidecar(path)
        if FILES not in content:
            silent = path if content or is_damaged(path) else older if own_sidecar(older) else None
            return cls(written=None if silent is None else silent.stat().st_mtime)
        digests = {file: {str(digest)} for file, digest in content[FILES].items()}
        for file, several in content.get(COMING, {}).items():
            digests.setdefault(file, set()).update(map(str, several if isinstance(several, list) else ()))
        return cls(digests)

    @property
    def by_name(self) -> bool:
        """Whether any file of the case's names is medseg's."""
        return self.written is not None

    def changed(self, folder: Path, file: Path) -> bool:
        """Whether medseg wrote the file, and somebody changed it since; one without content is no change of it."""
        if not self.names(folder, file) or not is_plain(file) or is_empty(file):
            return False
        if self.written is not None:
            return file.stat().st_mtime > self.written + LATER
        return file_digest(file) not in self.digests[within(folder, file)]

    def names(self, folder: Path, file: Path) -> bool:
        """Whether medseg wrote a file of this name, which somebody may have changed."""
        return self.by_name or within(folder, file) in self.digests


def within(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


def is_plain(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()


def has_sidecars(folder: Path) -> bool:
    """Whether medseg wrote the mask of some case in a folder."""
    return any(own_sidecar(file) for file in (*(folder / OWN).glob("*.json"), *folder.glob("*.json")))


def foreign_files(folder: Path) -> list[Path]:
    """The files in a folder of masks, and below it, that medseg did not write, by their names."""
    sidecars = [*(folder / OWN).glob("*.json"), *folder.glob("*.json")]
    names = [file.stem for file in sidecars if own_sidecar(file) or (file.parent != folder and is_damaged(file))]
    known = {name: Known.of(folder, name) for name in names}
    listed = {file for one in known.values() for file in one.digests}
    older = tuple(f"{name}{end}" for name, one in known.items() if one.by_name for end in "._")
    ours = {sidecar for file in names for sidecar in (sidecar_path(folder, file), older_sidecar(folder, file))}

    def foreign(file: Path) -> bool:
        plain = file not in ours and within(folder, file) not in listed
        return plain and not file.name.startswith((WRITING, *older))

    return sorted(file for file in folder.rglob("*") if not file.is_dir() and foreign(file))
