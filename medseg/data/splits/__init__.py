"""Which cases train and which are held out: official lists, folds, fractions; never one patient on both sides."""
