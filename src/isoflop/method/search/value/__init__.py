"""Values: how good a candidate looks to the method, before anyone has graded it."""
