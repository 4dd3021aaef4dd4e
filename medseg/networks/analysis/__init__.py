"""What a network costs and sees, computed from its operators."""

NORM = "norm statistics"
"""What lets a logit depend on the whole image where a norm layer does."""
