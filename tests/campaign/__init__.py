"""Many trials of what must hold whatever happens: `python -m tests.campaign`, and a sample of them as tests."""
