"""How a detector learns: experiments, trainings, evaluations, plans."""
