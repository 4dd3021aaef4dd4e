"""Which texts may not come from a user's file: in a bundle MONAI would evaluate them, or look them up."""

from __future__ import annotations

CODE_MARKS = {"$": "an expression", "@": "a reference", "%": "a macro"}
CODE_KEYS = ("_target_", "_mode_", "_requires_", "_disabled_", "_desc_", "_args_")


def refusal(text: str) -> str | None:
    """Why this text may not stand in a config, a card or a label name: MONAI bundles give it a meaning; else None."""
    if text[:1] in CODE_MARKS:
        return f"{text!r} begins with {text[0]!r}, {CODE_MARKS[text[0]]} in a MONAI bundle: a config is data, not code"
    if text in CODE_KEYS:
        return f"{text!r} builds Python objects in a MONAI bundle: a config is data, not code"
    return None
