"""Documents that commands write into a run's folder; reading them needs no torch."""
