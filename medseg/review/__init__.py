"""What a person looks at: overlays, TensorBoard and the HTML report."""
