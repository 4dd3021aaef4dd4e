"""Per-case and data-set metrics, and the table that reports them."""
