"""Who proposes architectures: PPO of a recurrent controller, evolution, random sampling."""
