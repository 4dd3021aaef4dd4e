"""Files of tensors, as `torch.save` writes them: read without executing anything, or a word on what else they are."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch

ZIP = b"PK\x03\x04"
BEFORE_ZIP = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that files of PyTorch before 1.6 begin with
OTHERS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch it: git lfs pull"),
    (b"\x89HDF", "a file of HDF5 (Keras), not of PyTorch", "convert it, and save it as torch.save(state_dict)"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it: gunzip"),
    (b"<", "a web page or XML, not what was to be downloaded", "download it anew"),
    (b"\x80", "a pickle of Python, which holds more than tensors and plain types", "save it as torch.save(state_dict)"),
)
"""What a file begins with -> what it is, and what to do. The first that fits counts."""
OBJECT = re.compile(r"(?:GLOBAL|class) ([\w.]{1,100})")  # how PyTorch names what it does not load


class Unreadable(Exception):
    """A file that tensors cannot be loaded from.

    Attributes:
        what: what is wrong with it.
        remedy: "" where all that helps is another copy.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


def read_tensors(path: Path, device: torch.device | str = "cpu") -> Any:
    """The tensors and plain types of a file.

    What PyTorch says of a file that it cannot load is not repeated: it advises to execute what is in it.

    Raises:
        Unreadable: it is damaged, of another program, or holds what would be executed.
        OSError: the system does not let it be read.
    """
    _check_kind(path)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of a damaged pickle, or tensors that do not fit their bytes, anything
        if isinstance(error, OSError) and error.filename is not None:
            raise
        said = str(error)
        if "DefaultCPUAllocator" in said or "CUDA" in said:
            raise
        if "Unsupported global" in said or "Unsupported class" in said:
            name = OBJECT.search(said)
            what = f"holds more than tensors and plain types ({name[1] if name else 'an object'}), so it is not loaded"
            remedy = "a file that executes code on loading is not a model; save a state_dict"
            raise Unreadable(what, remedy) from error
        raise Unreadable(f"damaged ({path.stat().st_size} bytes)") from error


def _check_kind(path: Path) -> None:
    """Raises Unreadable for what cannot be a file of tensors, by how it begins and what it is made of."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(ZIP):
        _check_archive(path, size)
    elif not head.startswith(BEFORE_ZIP):
        if b'{"' in head[8:12]:  # the length of the description comes before it
            raise Unreadable("a file of safetensors", "save it as torch.save(safetensors.torch.load_file(FILE), OTHER)")
        if head[257:262] == b"ustar":
            raise Unreadable("a file of PyTorch before 0.4", "save it anew with a newer one: torch.save(state_dict)")
        for beginning, what, remedy in OTHERS:
            if head.lstrip().startswith(beginning):
                raise Unreadable(what, remedy)
        raise Unreadable(f"damaged ({size} bytes), or no file of PyTorch: it does not begin as one")


def _check_archive(path: Path, size: int) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except Exception as error:  # of a directory with bits that have changed, anything
        if isinstance(error, OSError):
            raise
        raise Unreadable(f"damaged ({size} bytes): it has no end, as if cut off") from error
    names = [part.filename.partition("/")[2] for part in parts]
    if any(name.startswith("code/") for name in names) or "constants.pkl" in names:
        what = "a TorchScript archive, which is code and so holds more than tensors and plain types"
        raise Unreadable(what, "save the weights alone: torch.save(torch.jit.load(FILE).state_dict(), OTHER)")
    if "data.pkl" not in names:
        raise Unreadable("a ZIP archive, but none of PyTorch", "unpack it: is the file of weights inside?")
    if sum(part.file_size for part in parts) > size:  # PyTorch stores them as they are
        raise Unreadable("an archive that is compressed, as PyTorch makes none", "save it anew: torch.save(state_dict)")
