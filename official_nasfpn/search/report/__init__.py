"""What a person sees of a search: results by rank, curves, figures."""
