"""method/search."""
