"""Claims: what the papers say, as something one can run."""

from isoflop.claim.base import SIZES, Claim, CouldNotRunError, Evidence, Finding, claims, keep, kept_evidence

__all__ = ["SIZES", "Claim", "CouldNotRunError", "Evidence", "Finding", "claims", "keep", "kept_evidence"]
