"""The log that a trainer keeps beside its checkpoints: found, read, and told apart by attempts.

A log is no part of a checkpoint: whatever is wrong with it leaves the numbers unknown.
"""
