"""A run for people: what its detector has learnt, where it errs, on one page."""
