"""Encoders: image -> features, the finest first, with `channels` and `strides` of each."""
