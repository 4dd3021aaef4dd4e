"""From cases to batches: preprocessing, cache, patches or crops, augmentation."""
