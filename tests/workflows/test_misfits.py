"""A network whose options do not fit each other, which only building it shows: a mistake of the config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from medseg.bundle.language import Code, target
from medseg.bundle.run import parser_of
from medseg.core.errors import ConfigError
from medseg.core.foreign import unwrapped
from medseg.networks.fcn import FCN
from medseg.workflows.train import train
from tests.tiny import finish, medseg, tiny_config, train_arguments

DEEPLAB = {"network__name": "deeplabv3", "network__widths": None}


@pytest.mark.slow
def test_a_dry_run_of_the_command_line(tiny_msd: Callable[..., Path], tmp_path: Path) -> None:
    arguments = train_arguments(tiny_msd(cases=4), tmp_path / "run", network__encoder="resnet18")
    out, err = finish(medseg(*arguments, "--dry-run", cwd=tmp_path), expect=2)
    assert err == "error: network: unet: widths needs one entry a level: got 2 for 5 on resnet18\n"
    assert not out


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"network__encoder": "resnet18"}, "unet: widths needs one entry a level: got 2 for 5 on resnet18"),
        (DEEPLAB | {"network__encoder": "hrnet_w18"}, "deeplabv3: encoder 'hrnet_w18' has no option 'output_stride'"),
        (DEEPLAB | {"network__encoder": "alexnet"}, "deeplabv3: encoder 'alexnet' has no option 'output_stride'"),
    ],
)
def test_in_python(
    changes: dict[str, Any], what: str, dry_run: bool, tiny_msd: Callable[..., Path], tmp_path: Path
) -> None:
    config = tiny_config(tiny_msd(cases=4), **changes)
    with pytest.raises(ConfigError) as caught:
        train(config, run=tmp_path / "run", dry_run=dry_run)
    (problem,) = caught.value.problems
    assert problem.where == "network"
    assert problem.what.startswith(what)
    assert "component" not in str(caught.value)


def test_a_mistake_below_the_network_has_its_section_before_it() -> None:
    options = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    parser = parser_of({"network_def": target(FCN, **options, encoder="timm", output_stride=None)})
    with pytest.raises(ConfigError, match=r"^network\.encoder_options\.model: timm has many encoders"), unwrapped():
        parser.get_parsed_content("network_def")


def test_a_network_that_fits_is_that_network() -> None:
    content = {
        "network_def": target(nn.Conv2d, in_channels=1, out_channels=Code("@classes"), kernel_size=1),
        "classes": 2,
    }
    network = parser_of(content).get_parsed_content("network_def")
    assert isinstance(network, nn.Conv2d)
    assert network.out_channels == 2
    assert isinstance(content["network_def"]["_target_"], str), "what was compiled stays as it can be written"
