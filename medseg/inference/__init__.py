"""From an image of any size to logits, and from logits to a mask."""
