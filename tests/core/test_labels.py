from __future__ import annotations

import pytest

from medseg.core.errors import DataError
from medseg.core.labels import Labels


def test_targets_and_channels_of_classes() -> None:
    labels = Labels({"background": 0, "liver": 1, "lesion": 4})
    assert labels.values == (0, 1, 4)
    assert labels.channels == ("background", "liver", "lesion")
    assert labels.targets == {"liver": (1,), "lesion": (4,)}


def test_targets_and_channels_of_regions() -> None:
    labels = Labels({"background": 0, "a": 1, "b": 2}, {"all": (1, 2), "b": (2,)}, (1, 2))
    assert labels.channels == ("all", "b")
    assert labels.targets == {"all": (1, 2), "b": (2,)}


@pytest.mark.parametrize("name", ["$import os", "@trainer", "%file#key", "_target_"])
def test_a_name_that_would_be_code_in_a_bundle_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="a config is data, not code"):
        Labels({"background": 0, name: 1})
