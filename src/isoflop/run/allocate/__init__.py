"""Allocators: which problem to work on next under one budget."""
