"""Real models and what they are for, to shrink. Their files come by `isoflop pull examples`, never in passing."""
