"""What `medseg check` found: one screen for a terminal, plain types for a program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medseg.core.errors import Problem, count_of
from medseg.core.machine import machine_memory, size_text
from medseg.data.cases.dataset import Dataset
from medseg.data.cases.inspection import CaseFacts, Finding, counted
from medseg.data.files.images import voxel_ml

SHOWN_GROUPS, SHOWN_DETAILS, SHOWN_CASES = 8, 2, 6  # one screen; --json has everything


@dataclass(frozen=True)
class CheckReport:
    """Everything that `check` found. `cases` are labelled and unlabelled ones, in the order of their names."""

    dataset: Dataset
    cases: tuple[CaseFacts, ...]
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def problems(self) -> list[Problem]:
        """What must be mended."""
        return [finding.problem() for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Problem]:
        """What is odd, and may be right."""
        return [finding.problem() for finding in self.findings if finding.level == "warning"]

    @property
    def exit_code(self) -> int:
        """2 when anything must be mended, else 0."""
        return 2 if self.problems else 0

    @property
    def memory(self) -> dict[str, int]:
        """Bytes: the largest case, all cases together (float32 image and uint8 label), and this machine's memory.

        On the files' own grids; resampling to another spacing changes them with the volume of a voxel. The cache on
        disk is uncompressed, so it takes `all_cases`.
        """
        sizes = [case.memory_bytes for case in self.cases]
        return {"largest_case": max(sizes, default=0), "all_cases": sum(sizes), "machine": machine_memory().total or 0}

    def classes(self) -> list[dict[str, Any]]:
        """One entry a class or region: cases it occurs in, voxels in all, median volume and mean components where it
        occurs."""
        rows = []
        for name, values in counted(self.dataset.labels).items():
            found = [case for case in self.cases if case.voxels and case.voxels[name]]
            sizes = [(case.voxels, voxel_ml(case.spacing_mm, len(case.shape))) for case in found]
            volumes = [voxels[name] * ml for voxels, ml in sizes if voxels and ml is not None]
            parts = [case.components[name] for case in found if case.components]
            rows.append(
                {
                    "name": name,
                    "values": list(values),
                    "cases": len(found),
                    "voxels": sum(case.voxels[name] for case in found if case.voxels),
                    "median_volume_ml": float(np.median(volumes)) if volumes else None,
                    "mean_components": float(np.mean(parts)) if parts else None,
                }
            )
        return rows

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: plain types, every case and every finding."""
        return {
            "root": str(self.dataset.root),
            "name": self.dataset.name,
            "layout": self.dataset.layout,
            "channels": list(self.dataset.channels),
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 2),
            "labelled": len(self.dataset.cases),
            "unlabelled": len(self.dataset.unlabelled),
            "orientations": dict(Counter(case.orientation for case in self.cases if case.shape)),
            "classes": self.classes(),
            "memory_bytes": self.memory,
            "cache_bytes": self.memory["all_cases"],
            "findings": [asdict(finding) for finding in self.findings],
            "cases": [
                {key: value for key, value in asdict(case).items() if key not in ("findings", "digest")}
                for case in self.cases
            ],
        }

    def text(self) -> str:
        """One screen for the terminal: measures, classes, estimates, then the findings, the errors last."""
        return "\n".join([*self._head(), "", *self._findings()])

    def _head(self) -> Iterator[str]:
        data = self.dataset
        channels = ", ".join(data.channels)
        yield f"{data.name} ({data.layout}) in {data.root}"
        yield f"{len(data.cases)} labelled and {len(data.unlabelled)} unlabelled cases of {channels}"
        yield f"looked at in {self.seconds:.1f} s"
        read = [case for case in self.cases if case.shape]
        if not read:
            return
        yield ""
        rows = [["", "min", "median", "max"]]
        rows.append(["shape", *_spread([case.shape for case in read])])
        rows.append(["spacing (mm)", *_spread([case.spacing_mm for case in read])])
        yield from _table(rows)
        codes = Counter(case.orientation for case in read).most_common()
        yield "orientation   " + ", ".join(f"{code} ({count})" for code, count in codes)
        yield ""
        rows = [["class", "value", "cases", "voxels", "median ml", "parts"]]
        for row in self.classes():
            volume, parts = row["median_volume_ml"], row["mean_components"]
            rows.append(
                [
                    row["name"],
                    "+".join(str(value) for value in row["values"]),
                    str(row["cases"]),
                    str(row["voxels"]),
                    "-" if volume is None else f"{volume:.3g}",
                    "-" if parts is None else f"{parts:.1f}",
                ]
            )
        yield from _table(rows)
        yield ""
        size = self.memory
        yield f"memory  largest case {size_text(size['largest_case'])}, all {size_text(size['all_cases'])}; " + (
            f"this machine has {size_text(size['machine'])}" if size["machine"] else "as float32"
        )
        yield f"disk    cache {size_text(size['all_cases'])} (at the files' own spacing)"

    def _findings(self) -> Iterator[str]:
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in sorted(self.findings, key=lambda finding: finding.level == "error"):
            groups.setdefault((finding.level, finding.kind), []).append(finding)
        shown = list(groups.items())[-SHOWN_GROUPS:]  # errors come last and are what a person sees first
        if len(shown) < len(groups):
            yield f"... {len(groups) - len(shown)} more kinds of finding (--json lists them)"
        for (level, kind), members in shown:
            names = list(dict.fromkeys(member.case for member in members if member.case))
            rest = f", and {len(names) - SHOWN_CASES} more" if len(names) > SHOWN_CASES else ""
            where = f" in {count_of(len(names), 'case')}: {', '.join(names[:SHOWN_CASES])}{rest}" if names else ""
            yield f"{level}: {kind}{where}"
            for member in members[:SHOWN_DETAILS]:
                place = member.file or member.case
                yield f"    {place}: {member.detail}" if place else f"    {member.detail}"
            if len(members) > SHOWN_DETAILS:
                yield f"    ... and {len(members) - SHOWN_DETAILS} more"
            for remedy in dict.fromkeys(member.remedy for member in members if member.remedy):
                yield f"    -> {remedy}"
        errors, warnings = len(self.problems), len(self.warnings)
        yield (
            f"{count_of(errors, 'error')}, {count_of(warnings, 'warning')}" if errors or warnings else "nothing to mend"
        )


def _spread(values: Sequence[Sequence[float]]) -> list[str]:
    dims = max(len(value) for value in values)
    array = np.array([value for value in values if len(value) == dims], dtype=float)
    return [" x ".join(f"{x:.4g}" for x in row) for row in (array.min(0), np.median(array, 0), array.max(0))]


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns aligned: the first left, the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
