"""What one trial trains, and the reward that it gets."""
