"""Situations of real files: what scanners, converters and other tools write, each with what has to come of it.

A file a room (`geometry.py`, `dicom.py`, ...), a function a situation (`situation.py`), judged by `test_corpus.py`.
"""
