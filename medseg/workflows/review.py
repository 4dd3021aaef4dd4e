"""`medseg review`: TensorBoard on the right folder of a run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from medseg.core.errors import RunError
from medseg.core.stopping import Interrupted


def review(run: Path, *, port: int = 6006) -> None:
    """Serve TensorBoard for a run until Ctrl-C; raises RunError when `run` has no log or the port is taken."""
    folder = run / "tensorboard"
    if not run.is_dir():
        raise RunError(
            f"{run}: no such folder", "give the folder that `medseg train` printed, for example runs/demo/run"
        )
    if not any(folder.glob("**/events.out.tfevents.*")):
        remedy = "train first" if (run / "config.yaml").is_file() else "this is no run folder: it has no config.yaml"
        raise RunError(f"{folder}: no TensorBoard log", remedy)
    if importlib.util.find_spec("tensorboard") is None:
        raise RunError("TensorBoard is not installed", "pip install tensorboard")
    report = run / "report.html"
    if report.is_file():
        print(f"report: {report.resolve()}")
    print(f"TensorBoard: http://localhost:{port}   (Ctrl-C stops it)")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    try:
        failed = subprocess.run(command, check=False).returncode
    except (KeyboardInterrupt, Interrupted):  # the way to stop it
        return
    if failed:
        raise RunError(f"TensorBoard stopped with exit code {failed}", f"is port {port} taken? try --port {port + 1}")
