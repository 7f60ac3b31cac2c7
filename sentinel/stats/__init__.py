"""From a `Checkpoint` to numbers: one pass over the bytes, then the adapter's pairs."""
