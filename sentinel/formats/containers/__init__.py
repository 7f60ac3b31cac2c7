"""How bytes lie in one file: lengths and offsets are checked before they are used."""
