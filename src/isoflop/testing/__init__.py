"""Contracts to test one's own methods and models against."""

from isoflop.testing.method import check_method
from isoflop.testing.model import check_model

__all__ = ["check_method", "check_model"]
