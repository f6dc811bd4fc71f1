"""Settings of the proxy task, as recipes bind them (`Proxy.mode = 'shared'`)."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from official_nasfpn.configuration import configurable, settings


@configurable("Proxy")
@settings
class ProxyConfig:
  """What one trial trains: a whole detector, or a few epochs from weights that all trials share.

  Attributes:
    mode: `plain` trains the recipe's detector from its initial weights, as the paper does (section
      4.2). `shared` first trains a detector with the hand-designed FPN, once for the whole search.
      Its backbone is then frozen. Every trial trains pyramid and heads for a few epochs: the heads
      start from that detector, and all pyramids from the same initial weights. Merging has no
      weights, so all architectures share the weights of a cell, by repeat and by the cell's place
      in the building order.
    warmup_epochs: epochs of the training with the FPN; `shared` only.
    epochs: epochs of a trial; `shared` only.
    learning_rate: learning rate of a trial, relative to `Training.learning_rate`; it decays to zero
      along a cosine; `shared` only.
    max_cache_gb: the most memory in GB that the frozen backbone's features may take in one worker;
      `shared` only.
  """

  mode: Literal["plain", "shared"] = "plain"
  warmup_epochs: PositiveFloat = 10.0
  epochs: PositiveFloat = 6.0
  learning_rate: Annotated[PositiveFloat, Field(le=10)] = 1.0
  max_cache_gb: NonNegativeFloat = 4.0
