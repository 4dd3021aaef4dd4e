"""The wheel holds everything that medseg needs outside its repository."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from medseg.core.resources import resource_names

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built with the build tools of the present environment: no network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_an_installed_wheel_works_outside_the_checkout(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)  # which would come before it
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    # What medseg depends on comes from here, so that nothing is downloaded; an editable medseg there comes later.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = environment / "lib" / version / "site-packages"
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    def medseg(*arguments: str) -> subprocess.CompletedProcess:
        command = [environment / "bin" / "medseg", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    where = subprocess.run(
        [python, "-c", "import medseg; print(medseg.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(environment)
    listed = medseg("configs")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == resource_names("configs"), listed.stderr
    for name in resource_names("configs"):
        assert medseg("validate", name).returncode == 0
    assert medseg("configs", "brain", "--copy").returncode == 0
    assert medseg("validate", "brain.yaml").returncode == 0
    wrong = medseg("validate", "brain.yaml", "--set", "data.card=task01_brain_tumor")
    assert wrong.returncode == 2
    assert "did you mean 'task01_brain_tumour'" in wrong.stderr


@pytest.mark.slow
def test_the_wheel_carries_its_resources_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("configs", "datasets", "bundles"):
        files = [file.relative_to(ROOT) for file in (ROOT / folder).rglob("*") if file.is_file()]
        assert files
        assert {f"medseg/_resources/{file.as_posix()}" for file in files} <= names
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]
    assert any(name.endswith("licenses/LICENSE") for name in names)
