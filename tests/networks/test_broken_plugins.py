"""Parts of installed packages that cannot be used: whatever is wrong, it is said of the key that names them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.config.load import load_config
from medseg.config.network import NetworkConfig
from medseg.core.errors import ConfigError, RunError
from medseg.data.cases.dataset import read_dataset
from medseg.data.cases.layouts import LAYOUTS
from medseg.data.training.augment import TRANSFORMS
from medseg.losses import LOSSES
from medseg.networks import NETWORKS, build_network
from medseg.networks.encoders import ENCODERS
from medseg.runs.plugins import check_same

NAMES = (f"broken_{number}" for number in itertools.count())
TABLES = {"network": NETWORKS, "encoder": ENCODERS, "loss": LOSSES, "transform": TRANSFORMS}
GIVEN = {"network": "spatial_dims, in_channels, out_channels, ", "encoder": "spatial_dims, in_channels, norm, "}
SECTIONS = {
    "network": "network: {{name: {name}, anything: 3, widths: [1]}}",
    "encoder": "network: {{name: fpn, encoder: {name}, encoder_options: {{anything: 3}}}}",
    "loss": "loss: {{name: {name}, anything: 3}}",
    "transform": "augmentation: {{plugins: {{{name}: {{anything: 3}}}}}}",
}
WHERE = {
    "network": "network.name",
    "encoder": "network.encoder",
    "loss": "loss.name",
    "transform": "augmentation.plugins.{name}",
}
CLASS = "class Part:\n    def __init__(self, {arguments}):\n        pass\n"

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package that brings a part, and gives the name of that."""

    def installed(kind: str, source: str, path: str = "{module}:Part", package: str = "", name: str = "") -> str:
        name = name or next(NAMES)
        package = package or name
        site = tmp_path / package
        about = site / f"{package}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        group = {**TABLES, "layout": LAYOUTS}[kind].group
        (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {path.format(module=package)}\n")
        (site / f"{package}.py").write_text(source)
        monkeypatch.syspath_prepend(str(site))
        return name

    for table in (*TABLES.values(), LAYOUTS):
        monkeypatch.setattr(table, "_found", {})
    return installed


def problem_of(tmp_path: Path, kind: str, name: str) -> tuple[str, str]:
    """Where and what is the only problem of a config that names the part, and wrong options of it."""
    file = tmp_path / "c.yaml"
    file.write_text("name: x\n" + SECTIONS[kind].format(name=name))
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    (problem,) = caught.value.problems
    return problem.where.split()[1], problem.what


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    ("source", "path", "what"),
    [
        ("import no_such_module", "{module}:Part", "cannot be imported: ModuleNotFoundError: No module named 'no_such"),
        ("def", "{module}:Part", "cannot be imported: SyntaxError"),
        ("1 / 0", "{module}:Part", "cannot be imported: ZeroDivisionError"),
        ("", "{module}_gone:Part", "cannot be imported: ModuleNotFoundError"),
        ("", "{module}:Part", "cannot be imported: AttributeError"),
        ("", "{module}", "cannot be imported: AttributeError"),
        ("Part = 'text'", "{module}:Part", "is neither a class nor a function"),
        ("Part = type", "{module}:Part", "has a signature that cannot be read: "),
    ],
)
def test_what_cannot_be_loaded(kind: str, source: str, path: str, what: str, install: Install, tmp_path: Path) -> None:
    name = install(kind, source, path)
    where, said = problem_of(tmp_path, kind, name)
    assert where == WHERE[kind].format(name=name)
    assert said.startswith(f"{kind} {name!r} of {name} 1.0 {what}")


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize(
    ("argument", "what"),
    [
        ("more: 'NoSuchType' = 1", "has a signature that cannot be read: name 'NoSuchType' is not defined"),
        ("needed, more=1", "cannot be called with"),
        ("copy=3", "has an option 'copy', which no option can be called in a config"),
        ("findings=3", "has an option 'findings', which"),
        ("model_config=3", "has an option 'model_config', which"),
        ("_hidden=3", "has an option '_hidden', which"),
        ("weight: 'slice | None' = None", "has an option 'weight' that no config can write: Unable to generate"),
        ("weight=dict", "has an option 'weight' that no config can write: Unable to serialize"),
        ("weight: int = 0.5", "has an option 'weight' that no config can write: Input should be a valid integer"),
    ],
)
def test_what_a_config_cannot_say(kind: str, argument: str, what: str, install: Install, tmp_path: Path) -> None:
    name = install(kind, CLASS.format(arguments=GIVEN.get(kind, "") + argument))
    if what == "cannot be called with" and kind not in GIVEN:
        what = "cannot be called without arguments: missing a required argument: 'needed'"
    where, said = problem_of(tmp_path, kind, name)
    assert where == WHERE[kind].format(name=name)
    assert said.startswith(f"{kind} {name!r} of {name} 1.0 {what}")


@pytest.mark.parametrize(
    ("kind", "arguments", "what"),
    [
        ("network", "channels, classes", "cannot be called with spatial_dims, in_channels, out_channels: "),
        (
            "network",
            "spatial_dims, in_channels, out_channels, depth",
            "missing a required argument: 'depth'",
        ),
        ("network", "spatial_dims, in_channels, out_channels, options=1", "has an option 'options', which"),
        ("network", "spatial_dims, in_channels, out_channels, name='x'", "has an option 'name', which"),
        ("network", "spatial_dims, in_channels, out_channels, inflate='x'", "has an option 'inflate', which"),
        ("encoder", "spatial_dims, in_channels", "cannot be called with spatial_dims, in_channels, norm: "),
        ("loss", "part=1", "has an option 'part', which"),
        ("loss", "presence_weight=1", "has an option 'presence_weight', which"),
    ],
)
def test_what_the_parts_of_one_kind_have_to_take(
    kind: str, arguments: str, what: str, install: Install, tmp_path: Path
) -> None:
    where, said = problem_of(tmp_path, kind, install(kind, CLASS.format(arguments=arguments)))
    assert where == WHERE[kind]
    assert what in said


def test_a_network_that_cannot_be_called_is_not_built(install: Install) -> None:
    name = install("network", CLASS.format(arguments="channels, classes"))
    with pytest.raises(ConfigError, match="missing a required argument: 'channels'"):
        build_network(name, spatial_dims=3, in_channels=1, out_channels=2)


def test_an_encoder_without_channels_is_refused(install: Install) -> None:
    source = "from torch.nn import Identity\ndef Part(spatial_dims, in_channels, norm='none'): return Identity()\n"
    options = NetworkConfig.of(name="fpn", encoder=install("encoder", source)).options()
    with pytest.raises(ConfigError, match="has no attribute channels and no strides and no steps"):
        build_network("fpn", in_channels=1, out_channels=2, **options)


def test_what_may_be_given_is_taken_by_name_or_by_any(install: Install) -> None:
    name = install("network", CLASS.format(arguments="spatial_dims=3, *, in_channels=1, depth: tuple = (1, 2), **more"))
    assert NetworkConfig.of(name=name, depth=[3]).options() == {"spatial_dims": 3, "depth": [3]}
    assert NetworkConfig.of(name=name).model_dump()["depth"] == [1, 2]
    loss = install("loss", CLASS.format(arguments="regions, labels, class_weights: object = None"))
    assert LOSSES[loss].options.keys() == {"class_weights"}


@pytest.mark.parametrize("key", ["widths", "strides", "kernel_sizes"])
def test_names_of_the_u_nets_options_mean_what_a_package_means_by_them(key: str, install: Install) -> None:
    name = install("network", CLASS.format(arguments=f"spatial_dims, in_channels, out_channels, {key}: int = 2"))
    assert NetworkConfig.of(name=name, **{key: 4}).options()[key] == 4


def test_a_loss_whose_weighted_terms_are_off_by_default_has_others(install: Install, tmp_path: Path) -> None:
    source = "from medseg.core.types import Weight\n" + CLASS.format(arguments="edge_weight: Weight = 0.0")
    file = tmp_path / "c.yaml"
    file.write_text(f"name: x\nloss: {{name: {install('loss', source)}}}")
    assert load_config(file).loss.arguments() == {"edge_weight": 0.0}


def test_a_layout_that_cannot_be_imported(install: Install) -> None:
    name = install("layout", "import no_such_module")
    with pytest.raises(ConfigError, match=f"layout '{name}' of {name} 1.0 cannot be imported"):
        read_dataset(".", name)


@pytest.mark.parametrize("kind", TABLES)
def test_two_packages_with_one_name(kind: str, install: Install, tmp_path: Path) -> None:
    source = CLASS.format(arguments=GIVEN.get(kind, "").rstrip(", ") or "more=1")
    name = install(kind, source, package=next(NAMES))
    TABLES[kind][name].load()
    TABLES[kind]._found.clear()
    other = install(kind, source, package=next(NAMES), name=name)
    assert other == name
    _, said = problem_of(tmp_path, kind, name)
    assert "1.0 comes with broken_" in said
    assert "uninstall all but one" in said


def test_a_misspelt_encoder_of_a_package_is_guessed(install: Install, tmp_path: Path) -> None:
    install("encoder", CLASS.format(arguments="spatial_dims, in_channels, norm"), name="zebra_crossing")
    file = tmp_path / "c.yaml"
    file.write_text("name: x\nnetwork: {name: fpn, encoder: zebra_crosing}")
    with pytest.raises(ConfigError, match="did you mean 'zebra_crossing'"):
        load_config(file)


def test_a_run_is_not_read_with_what_another_package_calls_the_same(install: Install) -> None:
    name = install("network", CLASS.format(arguments="spatial_dims, in_channels, out_channels"))
    config = NetworkConfig.of(name=name)
    record = {"name": name, "distribution": name, "version": "0.9"}
    check_same(Path("run"), [record], config)
    for recorded in ({**record, "distribution": "older-package"}, {**record, "name": "unet"}):
        with pytest.raises(RunError, match=f"run: {recorded['name']}: was of the package"):
            check_same(Path("run"), [recorded], config)
