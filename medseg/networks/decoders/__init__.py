"""Decoders: features -> one map (and, where they supervise deeply, the coarser maps on the way)."""
