"""How a trial is evaluated, as recipes bind it (`Proxy.mode = 'shared'`)."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from official_nasfpn.configuration import configurable, settings


@configurable("Proxy")
@settings
class ProxyConfig:
  """What one trial trains: a detector of its own, or a few epochs from weights that all share.

  Attributes:
    mode: `plain` trains the recipe's detector from its initial weights, as the paper does (section
      4.2). `shared` trains it with the hand-drawn FPN first, once for a search; then the backbone
      is frozen, and every trial trains pyramid and heads for a few epochs, from the heads of that
      training and one initial pyramid. Merging has no weights, so the weights of a cell are shared
      by all architectures, by repeat and by the cell's place in the order of building.
    warmup_epochs: epochs of the training with an FPN.
    epochs: epochs of a trial.
    learning_rate: of a trial, relative to `Training.learning_rate`; it falls to zero by a cosine.
    max_cache_gb: the most memory that the frozen backbone's features may take in one worker.
  """

  mode: Literal["plain", "shared"] = "plain"
  warmup_epochs: PositiveFloat = 10.0
  epochs: PositiveFloat = 6.0
  learning_rate: Annotated[PositiveFloat, Field(le=10)] = 1.0
  max_cache_gb: NonNegativeFloat = 4.0
