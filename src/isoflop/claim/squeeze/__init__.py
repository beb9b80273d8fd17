"""Comparisons of claims about compressed models; they need torch."""
