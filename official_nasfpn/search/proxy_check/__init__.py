"""Whether rewards of the proxy mean anything: its ranking against a target's, and its noise."""
