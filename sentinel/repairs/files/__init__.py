"""Repairs on files: a new checkpoint with other dtypes, other keys or without its optimizer.

`prepare` says what a copy would be, `write` makes it, `prepare_copy` does both, `undo` takes it
away again. The original is only ever read.
"""
