"""What every room may use: errors with a remedy, files that appear whole, labels, and where shipped files are."""
