"""The proxy task: what one trial trains, and its reward."""
