from __future__ import annotations

from medseg.networks.analysis.reach import NORM
from medseg.review import networks_text


def test_the_word_for_norms_is_the_one_of_the_fields() -> None:
    assert networks_text.NORM == NORM
