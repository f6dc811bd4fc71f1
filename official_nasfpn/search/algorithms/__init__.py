"""Search algorithms: PPO with a recurrent controller, evolution, random search."""
