"""Stopping rules: when a search on one problem has seen enough."""
