"""The `inference.crf` section names what `medseg.inference.crf` has."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest

from medseg.config.crf import CRFConfig, CRFName
from medseg.config.load import load_config
from medseg.core.errors import ConfigError
from medseg.inference.crf import PUBLISHED, CRFParameters


def test_every_published_set_and_every_parameter_is_a_key() -> None:
    assert get_args(CRFName) == tuple(PUBLISHED)
    assert set(CRFConfig.model_fields) == {field.name for field in fields(CRFParameters)} | {
        "parameters",
        "guide",
        "margin",
    }


def test_mistakes_name_what_there_is() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("demo", ["inference.crf.parameters=krahenbuhl"])
    assert all(name in str(caught.value) for name in PUBLISHED)
    with pytest.raises(ConfigError, match=r"deeplab2(?s:.*)did you mean 'deeplabv2'\?"):
        load_config("demo", ["inference.crf.parameters=deeplab2"])
    with pytest.raises(ConfigError, match=r"iteration'(?s:.*)did you mean 'iterations'\?"):
        load_config("demo", ["inference.crf.parameters=deeplabv2", "inference.crf.iteration=3"])
    with pytest.raises(ConfigError, match=r"'parameters' is missing"):
        load_config("demo", ["inference.crf.iterations=3"])
