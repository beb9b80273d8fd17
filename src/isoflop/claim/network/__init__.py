"""Networks that claims are tested on; apart from the claims, which are listed where there is no torch."""
