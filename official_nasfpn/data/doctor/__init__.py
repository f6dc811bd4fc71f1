"""The doctor of datasets: what is in one, what is wrong with it, and what that means for AP."""
