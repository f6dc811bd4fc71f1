"""From settings to the algorithm that they name."""

from official_nasfpn.architecture import SearchSpace
from official_nasfpn.search.algorithms.addons import require_addons
from official_nasfpn.search.algorithms.algorithm import SearchAlgorithm
from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.random_search import RandomSearch
from official_nasfpn.search.config import SearchConfig


def check_algorithm(config: SearchConfig) -> None:
  """Raises a `UserError` where a package is missing that the algorithm of `config` needs."""
  if config.algorithm == "ppo" and config.cell == "layer_norm_lstm":
    require_addons()


def make_algorithm(config: SearchConfig, space: SearchSpace) -> SearchAlgorithm:
  """Returns the algorithm that `config` names, in its first state."""
  if config.algorithm == "random":
    return RandomSearch(space, config.seed)
  if config.algorithm == "evolution":
    return Evolution(space, config.seed, config.population_size, config.tournament_size)
  # Here, because TensorFlow is a matter of seconds and hundreds of megabytes.
  import tensorflow as tf

  from official_nasfpn.search.algorithms.ppo import PPO

  # The controller's network is small, and the GPUs are the workers'.
  tf.config.set_visible_devices([], "GPU")
  return PPO(space, config)
