"""What the paper publishes, and how ours compares: tables and figures."""
