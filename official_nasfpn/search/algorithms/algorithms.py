"""The table of search algorithms: the settings classes that `Search.algorithm` may name."""

import typing

from official_nasfpn.search.algorithms.evolution import Evolution
from official_nasfpn.search.algorithms.ppo import PPO
from official_nasfpn.search.algorithms.random_search import RandomSearch

Algorithm = PPO | Evolution | RandomSearch
ALGORITHMS: tuple[type, ...] = typing.get_args(Algorithm)
