from __future__ import annotations

from medseg.runs.volumes import SHOWN, volume_text


def test_a_large_cohort_is_summed_up() -> None:
    volumes = {f"case_{number:02d}": {"tumour": float(number)} for number in range(SHOWN + 5)}
    lines = volume_text(volumes).splitlines()
    assert len(lines) == 1 + SHOWN + 4
    assert "5 more" in lines[SHOWN + 1]
    assert lines[-3].split() == ["median", "12.00"]
    assert lines[-2].split() == ["range", "0.00-24.00"]
    assert lines[-1].split() == ["cases", "with", "it", "24"]
