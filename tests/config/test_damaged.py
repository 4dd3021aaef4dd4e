"""A config is anybody's text: whatever is in it, it is read or refused with a message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.config.load import dump_config, load_config
from medseg.config.schema import Config
from tests.data.cases.test_damaged import DRAWN, VALUES, Keys, changed, damaged, places, refused_or_read

TEXT = dump_config(Config(name="brain"))
PLAIN: dict[str, Any] = Config(name="brain").model_dump(mode="json")


@settings(DRAWN, max_examples=25)
@given(damaged(TEXT))
def test_a_damaged_config(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    refused_or_read(lambda: load_config(tmp_path / "config.yaml"))


@settings(DRAWN, max_examples=60)
@given(st.sampled_from([*places(PLAIN)]), VALUES)
def test_a_config_with_entries_of_any_type(tmp_path: Path, at: Keys, value: Any) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(changed(PLAIN, at, value)))  # JSON is YAML
    refused_or_read(lambda: load_config(tmp_path / "config.yaml"))


@DRAWN
@given(st.sampled_from([*places(PLAIN)][1:]), st.text(max_size=20) | VALUES.map(lambda value: json.dumps(value)))
def test_an_override_of_any_kind(tmp_path: Path, at: Keys, text: str) -> None:
    (tmp_path / "config.yaml").write_text("name: brain\n")
    refused_or_read(lambda: load_config(tmp_path / "config.yaml", [f"{'.'.join(map(str, at))}={text}"]))
