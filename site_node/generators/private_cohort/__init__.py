"""A generator of the whole cohort under differential privacy: a public prior, and the little that patients add."""
