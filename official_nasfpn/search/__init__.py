"""How a pyramid is found: search algorithms, the trial store, and workers that evaluate trials."""
