"""From a path to a `Checkpoint`: layouts over containers, headers only, nothing trusted."""
