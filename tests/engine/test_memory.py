"""Freed memory is used again without new pages from the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Page faults of filling 64 MiB twenty times, each time in a block of its own.
COUNT = """
import resource
import torch
from medseg.engine.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(2**24).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
usual = faults()
done = keep_freed_memory()
faults()  # the heap grows to what is needed
print(done, usual, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_fewer_page_faults() -> None:
    run = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    done, usual, kept = run.stdout.split()
    if done == "False":
        pytest.skip("no glibc")
    assert int(kept) < int(usual) / 4
