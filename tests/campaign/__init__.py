"""Many trials of what could go wrong: `python -m tests.campaign`, explained in docs/reliability.md."""
