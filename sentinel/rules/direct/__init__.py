"""Answering a rule without a database, where its SQL is plain enough.

Planning a statement costs DuckDB milliseconds, and a checkpoint is judged by dozens of them over
tables of a few hundred rows. So the part of SQL that most rules are written in is read once into
a tree and computed here over NumPy columns. Whatever this part does not know, or would not
compute exactly as DuckDB does, ends in `NotDirect`, and the rule is asked in the database.
"""
