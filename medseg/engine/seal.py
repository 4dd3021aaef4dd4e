"""A digest in a file of weights, so that a bit that has changed is found before the weights are used.

PyTorch's files are ZIP archives, and what stands in the comment at an archive's end is nobody's: there lies the SHA-256
of all before it, written with the same file and renamed with it. `torch.load`, MONAI and unzip read it as ever.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import IO, Any, cast

import torch

from medseg.core.files import readable

MARK = b"medseg sha256 "
LENGTH = len(MARK) + 64  # of the comment
END = b"PK\x05\x06"  # the last record of an archive begins with it; 22 bytes, the last two the length of the comment
END_SIZE = 22


def save_sealed(content: Any, file: IO[bytes]) -> None:
    """`torch.save`, with the digest as the archive's comment."""
    hashing = _Hashing(file)
    torch.save(content, cast(IO[bytes], hashing))  # it asks for `write` and `flush`
    if hashing.last[:4] != END or hashing.last[-2:] != b"\0\0":
        raise RuntimeError("torch.save wrote no archive without a comment")
    file.seek(-2, 1)
    file.write(struct.pack("<H", LENGTH) + MARK + hashing.digest.hexdigest().encode())


def is_sound(path: Path) -> bool | None:
    """Whether the file is what `save_sealed` wrote, to the bit; None of a file as `torch.save` alone writes it.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with readable(path).open("rb") as file:
        file.seek(max(0, size - END_SIZE - LENGTH))
        tail = file.read()
        if tail[-END_SIZE:][:4] == END and tail[-2:] == b"\0\0":
            return None
        if size < END_SIZE + LENGTH:
            return False
        file.seek(0)
        digest = hashlib.sha256()
        left = size - LENGTH - 2
        while left:
            part = file.read(min(left, 1 << 20))
            if not part:
                return False
            digest.update(part)
            left -= len(part)
    digest.update(b"\0\0")  # the archive as it was before it had a comment
    return tail[END_SIZE - 2 :] == struct.pack("<H", LENGTH) + MARK + digest.hexdigest().encode()


class _Hashing:
    """A file that is written to in one go; its digest, and its last bytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self.last = file, hashlib.sha256(), b""

    def write(self, part: Any) -> int:
        self.digest.update(part)
        view = memoryview(part).cast("B")
        self.last = (self.last + bytes(view[-END_SIZE:]))[-END_SIZE:]
        self.file.write(part)
        return len(view)

    def flush(self) -> None:
        self.file.flush()
