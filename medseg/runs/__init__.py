"""The folder of a run or of several folds: what is in it, which cases it holds out, what was decided for it."""
