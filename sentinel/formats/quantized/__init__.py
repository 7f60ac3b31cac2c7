"""How libraries pack a model's weights: one module a scheme, the literal registry in `registry`."""
