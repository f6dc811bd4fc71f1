"""Where trials are kept: one SQL database for a search, whoever works for it."""
