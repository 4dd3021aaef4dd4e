"""What `medseg predict` imports: a scan of a hippocampus takes a tenth of a second, and the start takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = {"torch._dynamo", "torch._inductor"}


def test_a_prediction_imports_nothing_heavy_that_it_does_not_use(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    code = f"import sys\nfrom medseg.cli import main\ntry: main()\nfinally: print({HEAVY} & sys.modules.keys())"
    options = ["predict", "--run", run, "--input", root / "imagesTs", "--output", tmp_path]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert any(line.startswith("2 cases predicted") for line in said)
    assert said[-1] == "set()"
