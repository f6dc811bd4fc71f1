"""Who evaluates trials, and who keeps those processes running."""
