"""Damaged copies of a file, drawn: each function takes a generator of randomness and the content, and gives another."""

from __future__ import annotations

import copy
import gzip
import hashlib
import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import yaml

Mutate = Callable[[Random, bytes], bytes]

NUMBERS = ("0", "-1", "-0", "1.5", "NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, "9" * 5000, "2147483648")
TEXTS = ("", " ", ".", "..", "/", "../x", "a\0b", "$x", "@x", "%x#y", "x" * 5000, "a\nb", "\ud800", "é")
WORDS = ("null", "true", "[]", "{}", "[[]]", '{"": null}', "[null]", "[1, 2, 3]", "[" * 3000 + "]" * 3000,
         '{"a": ' * 3000 + "1" + "}" * 3000)  # fmt: skip
JSON_TOKENS = (*NUMBERS, *map(json.dumps, TEXTS), *WORDS, "", "nul", "'x'", "1,", "/**/")
YAML_TOKENS = (
    *(number.replace("NaN", ".nan").replace("Infinity", ".inf") for number in NUMBERS),
    *map(json.dumps, TEXTS),
    *WORDS,
    "yes", "0o17", "0x1F", "1_000", "2024-01-01", "~", "<<", "!!binary aGk=", "!!set {a}",
    "!!python/name:os.system", "!!python/object/apply:os.system ['touch executed']", "!!float x", "!!int x", "!x y",
    "&a [*a]", "*nowhere",
    "'", '"', "|\n  x", ">-", "[1, 2", "{a: 1", "\t", "@x", "`x`", "%x", "a: b: c", "? x", "- x", "---", "...",
    "&a [&b [*a, *b], *a]",
)  # fmt: skip
HEADER_WORDS = (
    "0",
    "-1",
    "1e999",
    "nan",
    "inf",
    "99999999999",
    "",
    "x" * 3000,
    "(",
    "none",
    "1 1 1 1 1 1 1 1 1",
    "\0",
    "../x",
)
EXTREMES = {
    "<h": (0, 1, -1, 32767, -32768, 4096),
    "<i": (0, -1, 2**31 - 1, -(2**31), 65536),
    "<f": (0.0, -1.0, float("nan"), float("inf"), -float("inf"), 3e38, 1e-40),
    "<d": (0.0, float("nan"), float("inf"), 1e308),
}
HERE = "PUT-IT-HERE"


def damaged(random: Random, content: bytes) -> bytes:
    """Bytes that were flipped, cut off, put in, left out, repeated; nothing at all."""
    size = len(content)
    at, length = random.randrange(size + 1), random.choice((1, 4, 16, 300))
    kind = random.randrange(9)
    if kind == 0:
        return content[:at]
    if kind == 1:
        return random.choice((b"", b"\0", b"\n", b"\0" * size, b"\xff" * size))
    if kind == 2:
        return content[:at] + content[at : at + length] * random.choice((2, 3, 50)) + content[at + length :]
    if kind == 3:
        return content[:at] + content[at + length :]
    if kind == 4:
        return content[:at] + random.randbytes(length) + content[at:]
    if kind == 5:
        return content[:at] + random.choice((b"\0", b"\xff", b"\x80")) * length + content[at + length :]
    if kind == 6:
        return content + content
    return flipped(random, content, 0, min(size, random.choice((64, 400, size))) if size else 0)


def flipped(random: Random, content: bytes, first: int, last: int) -> bytes:
    """One to eight bits between two places."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8))):
        if last > first:
            changed[random.randrange(first, last)] ^= 1 << random.randrange(8)
    return bytes(changed)


def extreme(random: Random, content: bytes, first: int, last: int) -> bytes:
    """A number of a header as large, as small or as strange as it can be."""
    form = random.choice(list(EXTREMES))
    size = struct.calcsize(form)
    if last - first < size:
        return content
    at = first + random.randrange((last - first) // size) * size
    return content[:at] + struct.pack(form, random.choice(EXTREMES[form])) + content[at + size :]


def in_header(first: int, last: int) -> Mutate:
    """Numbers and bits of a binary header."""

    def mutate(random: Random, content: bytes) -> bytes:
        change = random.choice((extreme, extreme, flipped))
        return change(random, content, min(first, len(content)), min(last, len(content)))

    return mutate


def unpacked(inner: Mutate) -> Mutate:
    """What a gzip file holds, packed again."""
    return lambda random, content: gzip.compress(inner(random, gzip.decompress(content)), mtime=0)


def tiff(random: Random, content: bytes) -> bytes:
    """The fields of the first directory."""
    if random.random() < 0.2:
        return damaged(random, content)
    (start,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[start : start + 2])
    return in_header(start, start + 2 + 12 * count)(random, content)


def png(random: Random, content: bytes) -> bytes:
    """A chunk that is changed, left out or repeated, mostly with the checksum that it then has."""
    chunks, at = [], 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    which = random.randrange(len(chunks))
    name, data = chunks[which]
    kind = random.randrange(5)
    if kind < 2 and data:
        chunks[which] = (name, flipped(random, data, 0, min(len(data), 13)))
    elif kind == 2:
        sizes = struct.pack(">II", random.choice((0, 1, 2**31 - 1, 5000)), random.choice((0, 1, 2**31 - 1, 5000)))
        chunks[0] = (chunks[0][0], sizes + chunks[0][1][8:])
    elif kind == 3:
        chunks[which : which + 1] = random.choice(([], [(name, data)] * 2))
    else:
        chunks[which] = (name, damaged(random, data))
    mended = random.random() < 0.8
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) if mended else 1)
        for name, data in chunks
    ]
    return content[:8] + b"".join(written)


def dicom(random: Random, content: bytes) -> bytes:
    """Numbers in the text of the header, lengths, tags."""
    found = list(re.finditer(rb"[0-9.\\]{2,}", content[132:1500]))
    if found and random.random() < 0.5:
        place = random.choice(found)
        length = place.end() - place.start()
        new = random.choice((b"9", b"-", b"0", b"e", b".", b"\\", b" ", b"\0")) * length
        return content[: 132 + place.start()] + new + content[132 + place.end() :]
    return in_header(random.choice((0, 132)), 1500)(random, content)


def text_header(random: Random, content: bytes) -> bytes:
    """A word of the lines that a NRRD or MetaImage file begins with."""
    head, separator, voxels = content.partition(b"\n\n")
    words = list(re.finditer(rb"[^\s:=(),]+", head[:1200]))
    if not words or random.random() < 0.2:
        return damaged(random, content)
    place = random.choice(words)
    new = random.choice(HEADER_WORDS).encode()
    return head[: place.start()] + new + head[place.end() :] + separator + voxels


def structured(tokens: Sequence[str], read: Callable[[bytes], Any], write: Callable[[Random, Any], str]) -> Mutate:
    """An entry of another type, one that is gone, one too many, another key; or damaged text."""

    def mutate(random: Random, content: bytes) -> bytes:
        if random.random() < 0.25:
            return damaged(random, content)
        tree = copy.deepcopy(read(content))
        at = random.choice(list(places(tree)))
        if not at:
            return random.choice(tokens).encode("utf-8", "surrogatepass")
        inner = holder(tree, at)
        kind = random.randrange(8)
        if kind == 0:
            del inner[at[-1]]
        elif kind == 1 and isinstance(inner, dict):
            inner[random.choice((*TEXTS[1:4], "x" * 300, "unknown"))] = inner.pop(at[-1])
        elif kind == 2 and isinstance(inner, list):
            inner.extend(copy.deepcopy(inner) * random.choice((1, 30)))
        else:
            inner[at[-1]] = HERE
        text = write(random, sealed_anew(tree) if random.random() < 0.7 else tree)
        token = random.choice(tokens)
        for quoted in (f'"{HERE}"', f"'{HERE}'", HERE):
            text = text.replace(quoted, token)
        return text.encode("utf-8", "surrogatepass")

    return mutate


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys of every entry, that of the whole first."""
    yield at
    for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places(inner, (*at, key))


def holder(tree: Any, at: tuple[Any, ...]) -> Any:
    """The dict or list in the tree that holds the entry at a place."""
    for key in at[:-1]:
        tree = tree[key]
    return tree


def sealed_anew(tree: Any) -> Any:
    """A file that holds a digest of its content, with that of the new one: who means harm would write it."""
    if not isinstance(tree, dict) or "sha256" not in tree or HERE in json.dumps(tree):
        return tree
    content = {key: value for key, value in tree.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return {**content, "sha256": digest}


def _json_text(random: Random, tree: Any) -> str:
    return json.dumps(tree, indent=1) + "\n" if "sha256" in tree or random.random() < 0.5 else json.dumps(tree)


def _yaml_text(random: Random, tree: Any) -> str:
    return yaml.safe_dump(tree, default_flow_style=random.choice((True, False, None)), sort_keys=False)


json_file = structured(JSON_TOKENS, json.loads, _json_text)
yaml_file = structured(YAML_TOKENS, yaml.safe_load, _yaml_text)


def table(random: Random, content: bytes) -> bytes:
    """A CSV with another word, or damaged."""
    words = list(re.finditer(rb"[^,\r\n]+", content))
    if not words or random.random() < 0.4:
        return damaged(random, content)
    place = random.choice(words)
    new = random.choice((*NUMBERS, *TEXTS, '"', ",,,", ";")).encode("utf-8", "surrogatepass")
    return content[: place.start()] + new + content[place.end() :]


def weights(random: Random, content: bytes) -> bytes:
    """Another state dict, as PyTorch writes it, without a digest; or damaged."""
    import torch

    if random.random() < 0.35:
        return damaged(random, content)
    tree = torch.load(io.BytesIO(content), weights_only=True)
    at = random.choice([at for at in places(tree) if at])
    inner = holder(tree, at)
    kind = random.randrange(5)
    if kind == 0:
        del inner[at[-1]]
    elif kind == 1:
        tree = random.choice(([], {}, None, 3, "x", torch.zeros(2), {"a": 1}, {"network": {}}, {1: 2}))
    elif isinstance(inner[at[-1]], torch.Tensor) and kind < 4:
        tensor = inner[at[-1]]
        nothing = torch.full_like(tensor.float(), float("nan"))
        others = (tensor[None], tensor.double(), tensor.bool(), nothing, torch.zeros(0), tensor.to_sparse())
        inner[at[-1]] = random.choice(others)
    else:
        values = (None, -1, 10**30, float("nan"), "x", [], {}, [[]], {"a": []}, True, torch.zeros(3))
        inner[at[-1]] = random.choice(values)
    file = io.BytesIO()
    torch.save(tree, file)
    return file.getvalue()
