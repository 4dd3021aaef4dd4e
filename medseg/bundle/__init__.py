"""Config -> explicit MONAI components: the only place that unpacks a config."""
