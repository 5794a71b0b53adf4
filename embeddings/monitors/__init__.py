"""Covariate shift: measures of how a day differs from those before it, and when that is news."""
