"""What claims on conditional models are tested with; apart from the claims, which are listed without torch too."""
