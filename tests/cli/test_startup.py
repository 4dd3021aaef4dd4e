"""What `medseg predict` imports: a scan of a hippocampus takes a tenth of a second, and the start takes seconds."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from medseg.core import startup

HEAVY = {"torch._dynamo", "torch._inductor", *startup.BESIDE_MONAI}


def test_a_prediction_imports_nothing_heavy_that_it_does_not_use(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    code = f"import sys\nfrom medseg.cli import main\ntry: main()\nfinally: print({HEAVY} & sys.modules.keys())"
    options = ["predict", "--run", run, "--input", root / "imagesTs", "--output", tmp_path]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert any(line.startswith("2 cases predicted") for line in said)
    assert said[-1] == "set()"


@pytest.mark.parametrize("brought", [False, True])
def test_what_is_left_out_can_be_imported_afterwards(brought: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And at once where a package brings parts of medseg, which may need it of MONAI."""
    entries = [metadata.EntryPoint("net", "a:B", "medseg.networks" if brought else "pytest11")]
    monkeypatch.setattr(metadata, "entry_points", lambda: metadata.EntryPoints(entries))
    monkeypatch.setattr(startup, "BESIDE_MONAI", ("this", "json.tool", "math"))
    monkeypatch.delitem(sys.modules, "json.tool", raising=False)
    with startup.monai_alone():
        import_module("math")  # is there already
        if brought:
            import_module("json.tool")
        else:
            with pytest.raises(ModuleNotFoundError):
                import_module("json.tool")
    assert import_module("json.tool").__name__ == "json.tool"
    assert "this" not in sys.modules
