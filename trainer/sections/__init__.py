"""The recipe's sections, one a module; `recipe.py` puts them together."""
