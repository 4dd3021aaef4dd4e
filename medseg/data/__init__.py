"""From files to tensors: cases, images, preprocessing, cache, patches, augmentation."""
