from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from medseg.config.load import dump_config, find_config, load_config
from medseg.core.errors import ConfigError, Problem
from medseg.core.resources import resource_names
from medseg.networks import NETWORKS


def problems_of(tmp_path: Path, text: str, *overrides: str) -> dict[str, Problem]:
    """Where (without the file's folder) -> the problem."""
    file = tmp_path / "c.yaml"
    file.write_text(textwrap.dedent(text))
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    return {problem.where.replace(str(file), "c.yaml"): problem for problem in caught.value.problems}


@pytest.mark.parametrize("name", resource_names("configs"))
def test_shipped_configs_are_valid_and_round_trip(name: str, tmp_path: Path) -> None:
    config = load_config(name)
    assert config.name == name
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(dump_config(config))
    assert load_config(resolved) == config


def test_overrides_win_and_are_typed(tmp_path: Path) -> None:
    overrides = ["training.optimizer.learning_rate=1e-4", "data.root=/some/where", "network.widths=[8, 16]", "seed=7"]
    config = load_config("hippocampus", overrides)
    assert config.training.optimizer.learning_rate == 1e-4
    assert config.data.root == "/some/where"
    assert config.network.widths == [8, 16]
    assert config.seed == 7


def test_every_mistake_at_once_each_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        """\
        name: bad run
        epochs: 3
        network:
          spatial_dim: 2
          name: unett
          strides: [1, a, 2]
        training:
          batch_size: 0
          compile: no
          optimizer: sgd
          precision: bf16
        data:
          card: task4_hippocampus
        loss: {dice_weight: 0, cross_entropy_weight: 0}
        network: {}
        preprocessing:
          orientation: RRS
        """,
        "training.workers=two",
        "trainin.seed=1",
        "training.seed=1",
    )
    remedies = {where: problem.remedy for where, problem in found.items()}
    assert remedies == {
        "c.yaml:1 name": "",
        "c.yaml:2 epochs": "did you mean 'training.max_epochs'?",
        "c.yaml:4 network.spatial_dim": "did you mean 'spatial_dims'?",
        "c.yaml:5 network.name": "did you mean 'unet'? Others come with packages (entry points 'medseg.networks')",
        "c.yaml:6 network.strides.1": "write a whole number",
        "c.yaml:8 training.batch_size": "",
        "c.yaml:9 training.compile": "write true or false",
        "c.yaml:10 training.optimizer": "write a section: indented `key: value` lines",
        "c.yaml:11 training.precision": "did you mean 'bfloat16'?",
        "c.yaml:13 data.card": "did you mean 'task04_hippocampus'?",
        "c.yaml:14 loss.dice_weight": "",
        "c.yaml:15 network": "keep one",
        "c.yaml:17 preprocessing.orientation": "",
        "--set training.workers=two": "write a whole number",
        "--set trainin.seed=1": "did you mean 'training'?",
        "--set training.seed=1": "did you mean 'seed', outside of all sections?",
    }
    assert "'unett'" in found["c.yaml:5 network.name"].what
    assert "'no'" in found["c.yaml:9 training.compile"].what


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("training: {patch_size: [64, 64]}", "training.patch_size", "has 2 numbers, but network.spatial_dims is 3"),
        ("network: {spatial_dims: 2}", "training.patch_size", "has 3 numbers, but network.spatial_dims is 2"),
        ("preprocessing: {spacing_mm: [1, 1]}", "preprocessing.spacing_mm", "has 2 numbers"),
        ("network: {strides: [1, 2]}", "network.strides", "got 2 for 5 widths"),
        ("network: {widths: [8, 16], kernel_sizes: [3, [3, 3]]}", "network.kernel_sizes", "must have 3 numbers"),
        ("network: {widths: [8, 16], kernel_sizes: [3, 2]}", "network.kernel_sizes", "must be odd"),
        ("training: {patch_size: [16, 16, 16]}", "training.patch_size", "single voxel"),
        ("training: {patch_size: [32, 16, 16], patch_growth: 0.5}", "training.patch_size", "[16, 16, 16] is a single"),
        (
            "training: {patch_size: [32, 32, 32], patch_growth: 0.5}\nnetwork: {name: segresnet}",
            "training.patch_size",
            "cannot be smaller",
        ),
        ("augmentation: {flip_axes: [1, 1]}", "augmentation.flip_axes", "twice"),
        ("augmentation: {scale: [1.2, 0.8]}", "augmentation.scale", "low to high"),
        ("training: {device: cpu, precision: float16}", "training.precision", "float16 needs a GPU"),
        ("training: {early_stop_epochs: 3}\ndata: {validation: 0}", "training.early_stop_epochs", "validation cases"),
        ("data: {regions: {a: [1]}}", "data.region_values", "both or neither"),
        ("data: {regions: {a: [1], b: [2]}, region_values: [1]}", "data.region_values", "1 values for 2 regions"),
        ("data: {regions: {a: [1], b: [2]}, region_values: [1, 1]}", "data.region_values", "different positive"),
        ("data: {regions: {a: [0]}, region_values: [1]}", "data.regions.a", "different positive"),
        ("data: {regions: {a: [3]}, region_values: [1], ignore_index: 3}", "data.regions.a", "ignore_index"),
        ("inference: {keep_largest_component: [x]}\ndata: {card: task04_hippocampus}", "inference.keep_larg", "'x'"),
        ("training: {optimizer: {learning_rate: .nan}}", "training.optimizer.learning_rate", "finite"),
        ("data: {validation: 1}", "data.validation", "less than 1"),
        ("training: {patch_size: 3}", "training.patch_size", "list"),
        ("training: {max_epochs: true}", "training.max_epochs", "integer"),
        ("training: {max_epochs: '3'}", "training.max_epochs", "integer"),
        ("network:", "network", "section"),
    ],
)
def test_impossible_values_and_combinations(tmp_path: Path, text: str, where: str, what: str) -> None:
    found = problems_of(tmp_path, f"name: x\n{text}")
    ((place, problem),) = found.items()
    assert place.startswith("c.yaml:2 " if where.split(".")[0] in text else "c.yaml ")
    assert place.rpartition(" ")[2].startswith(where)
    assert what in problem.what


def test_a_misspelt_key_does_not_cause_errors_about_its_default(tmp_path: Path) -> None:
    found = problems_of(tmp_path, "name: x\nnetwork: {spatial_dim: 2}\ntraining: {patch_size: [64, 64]}")
    assert list(found) == ["c.yaml:2 network.spatial_dim"]


def test_a_combination_is_found_beside_a_missing_name(tmp_path: Path) -> None:
    found = problems_of(tmp_path, "seed: 1", "training.patch_size=[64, 64]")
    assert list(found) == ["c.yaml name", "--set training.patch_size=[64, 64]"]


def test_finding_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("brain").name == "brain.yaml"
    with pytest.raises(ConfigError, match="did you mean 'brain'"):
        find_config("brian")
    with pytest.raises(ConfigError, match="medseg configs brain --copy"):
        find_config("configs/brain.yaml")
    Path("brain").write_text("name: mine")
    assert load_config("brain").name == "mine"


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("dims", [2, 3])
def test_another_network_by_name_alone(name: str, dims: int) -> None:
    """What the file says of the network it was written for does not stand in the way of another one."""
    overrides = [f"network.name={name}"]
    if dims == 2:
        overrides += ["network.spatial_dims=2", "training.patch_size=[64, 64]"]
    network = load_config("hippocampus", overrides).network
    assert (network.name, network.spatial_dims) == (name, dims)
    assert getattr(network, "widths", None) == ([16, 32, 64, 128] if "widths" in NETWORKS[name].options else None)


def test_another_network_forgives_no_mistake(tmp_path: Path) -> None:
    text = "name: x\nnetwork:\n  name: unet\n  widths: [8, 16]\n  widhts: [8]\n"
    found = problems_of(tmp_path, text, "network.name=fpn", "network.residual=true")
    assert len(found) == 2, found
    assert "c.yaml:5 network.widhts" in found
    assert any(
        "residual" in where and "fpn has no option 'residual'; it has align_corners, " in problem.what
        for where, problem in found.items()
    )
    text = "name: x\nnetwork:\n  name: fpn\n  widths: [8, 16]\n"
    assert "c.yaml:4 network.widths" in problems_of(tmp_path, text, "network.name=fpn")


def test_another_network_leaves_the_options_of_its_encoder_behind(tmp_path: Path) -> None:
    text = "name: x\nnetwork:\n  name: pspnet\n  encoder_options: {stem: 7x7}\n"
    (tmp_path / "c.yaml").write_text(text)
    assert load_config(tmp_path / "c.yaml", ["network.name=hrnet"]).network.encoder_options is None
    kept = load_config(tmp_path / "c.yaml", ["network.name=fpn"]).network
    assert kept.options()["encoder_options"] == {"stem": "7x7"}


# What a run of medseg 0.1.0 wrote: the keys of all networks, most of them null.
OLD = """
name: old
network:
  name: {name}
  spatial_dims: 3
  encoder: {encoder}
  encoder_options: {{width: {width}, stem: null, stem_width: null, strides: null, model: null}}
  auxiliary: null
  pretrained: null
  inflate: mean
  norm: instance
  activation: null
  upsample: null
  widths: null
  codewords: null
  window_size: null
"""


@pytest.mark.parametrize(
    ("name", "encoder", "width"), [("fpn", "resnet18", 0.5), ("hrnet", "null", 4), ("deeplabv3plus", "null", 0.5)]
)
def test_a_config_with_the_nulls_of_other_networks_loads(tmp_path: Path, name: str, encoder: str, width: float) -> None:
    file, again = tmp_path / "c.yaml", tmp_path / "again.yaml"
    file.write_text(OLD.format(name=name, encoder=encoder, width=width))
    config = load_config(file)
    assert config.network.options()["norm"] == "instance"
    assert config.network.options()["encoder_options"] == {"width": width}
    assert not {"activation", "widths", "codewords", "window_size"} & set(config.network.model_dump())
    again.write_text(dump_config(config))
    assert load_config(again) == config
