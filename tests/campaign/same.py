"""Whether two folders that medseg wrote are the same, to the bit, but for what differs by nature: time and machine.

By nature differ, and are compared without that:

- `time.json`: all its seconds; `history.csv` and the history in `checkpoint.pt`: the columns of minutes;
- `checkpoint.pt`: the seconds of the budget. (So its digest differs; tensors are compared one by one.)
- `.medseg-written`: the digests, of files such as `report.html`; which files it names is the same;
- `environment.json`: free memory and free disk;
- `report.html`: the same where it shows them;
- `tensorboard/`: how many files there are, their names (time, host, process), and the time of each event. A resumed
  training logs an epoch again: every value that was ever logged has to be that of the run that was never killed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MINUTES = ("minutes", "validation_minutes")
SECONDS = ("seconds", "validation_seconds")
FREE = ("memory_free_gib", "disk_free_gib")
BOARD = "tensorboard"


def differences(one: Path, other: Path) -> list[str]:
    """What of two folders is not the same, a line a file; of the second, `other`, it is said how it differs."""
    first, second = _files(one), _files(other)
    found = [f"{name} is missing" for name in sorted(first.keys() - second.keys())]
    found += [f"{name} is left over" for name in sorted(second.keys() - first.keys())]
    for name in sorted(first.keys() & second.keys()):
        if first[name] is None or second[name] is None:
            found += [f"{name}: a folder and a file"] * (first[name] is not second[name])
        elif (text := _difference(name, one / name, other / name)) is not None:
            found.append(f"{name}: {text}")
    return found


def _files(folder: Path) -> dict[str, bool | None]:
    """Files, folders (None) and logs of TensorBoard (the folder alone), by their paths from the folder."""
    found: dict[str, bool | None] = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if BOARD in name.parts[:-1]:
            continue
        found[name.as_posix()] = True if path.is_file() or name.name == BOARD else None
    return found


def _difference(name: str, one: Path, other: Path) -> str | None:
    """How the second differs from the first; None where it does not."""
    read = READERS.get(one.name)
    if read is None:
        return None if one.read_bytes() == other.read_bytes() else "other bytes"
    try:
        first, second = read(one), read(other)
    except Exception as error:
        return f"cannot be read: {type(error).__name__}: {error}"
    return None if first == second else f"{_short(second)} in the place of {_short(first)}"


def _short(content: Any) -> str:
    text = repr(content)
    return text if len(text) < 300 else f"{text[:300]}..."


def _history(path: Path) -> list[dict[str, Any]]:
    return _without_minutes(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def _without_minutes(rows: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in MINUTES} for row in rows]


def _checkpoint(path: Path) -> Any:
    import torch

    state = torch.load(path, weights_only=True)
    state["history"] = _without_minutes(state["history"])
    return _plain({key: value for key, value in state.items() if key not in SECONDS})


def _plain(content: Any) -> Any:
    """Tensors as their type, shape and bytes."""
    import torch

    if isinstance(content, torch.Tensor):
        return str(content.dtype), tuple(content.shape), content.contiguous().view(-1).numpy().tobytes()
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    return [_plain(value) for value in content] if isinstance(content, list | tuple) else content


def _environment(path: Path) -> Any:
    content = json.loads(path.read_text(encoding="utf-8"))
    content["machine"] = {key: value for key, value in content["machine"].items() if key not in FREE}
    return content


def _time(path: Path) -> Any:
    content = json.loads(path.read_text(encoding="utf-8"))
    return sorted(content), sorted(content["shares"])


def _report(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    text = re.sub(rf"({'|'.join(FREE)})&#34;: [\d.]+", r"\1", text)
    return re.sub(r"\([\d.]+ minutes\)", "(minutes)", text)


def _board(folder: Path) -> list[Any]:
    """All that was ever logged: tag, step, value."""
    return sorted({event for file in folder.glob("events.*") for event in _events(file)})


def _events(file: Path) -> Iterator[tuple[str, int, bytes]]:
    """Of a file that may end in the middle of an event."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    for raw in RawEventFileLoader(str(file)).Load():
        event = Event.FromString(raw)
        for value in event.summary.value:
            yield value.tag, event.step, value.SerializeToString(deterministic=True)


def _written(path: Path) -> list[str]:
    return sorted(json.loads(path.read_text(encoding="utf-8")))


READERS = {
    ".medseg-written": _written,
    "history.csv": _history,
    "checkpoint.pt": _checkpoint,
    "environment.json": _environment,
    "time.json": _time,
    "report.html": _report,
    BOARD: _board,
}
