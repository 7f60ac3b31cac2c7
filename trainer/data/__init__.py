"""From file patterns to what the training loop takes: files, records, tokens, blocks, batches."""
