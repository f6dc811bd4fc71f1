"""Settings of the proxy task and of what it measures (`Proxy.mode = 'shared'`)."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

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
      in the building order. The detector with the FPN is kept in the directory of the search, or in
      the `--work_dir` of a worker that does not see it: workers without either each train it anew.
    warmup_epochs: epochs of the training with the FPN; `shared` only.
    epochs: epochs of a trial; `shared` only.
    learning_rate: learning rate of a trial, relative to `Training.learning_rate`; it decays to zero
      along a cosine; `shared` only.
    max_cache_gb: the most memory in GB that the frozen backbone's features may take in one worker;
      `shared` only. Those of the training must fit. Those of the held-out images are kept if both
      do, and else computed anew in every trial.
  """

  mode: Literal["plain", "shared"] = "plain"
  warmup_epochs: PositiveFloat = 10.0
  epochs: PositiveFloat = 6.0
  learning_rate: Annotated[PositiveFloat, Field(le=10)] = 1.0
  max_cache_gb: NonNegativeFloat = 4.0


@configurable("Latency")
@settings
class LatencyConfig:
  """How a trial's latency and file size are measured, where reward or objectives ask for them.

  The network of one image is timed on the worker's machine, without decoding of boxes and
  non-maximum suppression, which all architectures have alike. Other work on the machine slows it
  down: let each worker have cores of its own.

  Attributes:
    runtime: what runs it: `tensorflow` as a SavedModel is served, `onnxruntime`, or `litert`. With
      `tensorflow` it is timed in the worker's process, so latency has trainings do without oneDNN
      where TensorFlow leaves it off, on x86 without AVX-512: they take up to 1.7 times as long.
    threads: of the runtime; 0 leaves them to it, as `nasfpn detect` does. TensorFlow's are those of
      the whole worker, `TF_NUM_INTRAOP_THREADS` in its environment.
  """

  runtime: Literal["tensorflow", "onnxruntime", "litert"] = "tensorflow"
  threads: NonNegativeInt = 0

  def __post_init__(self) -> None:
    if self.runtime == "tensorflow" and self.threads:
      raise ValueError(
        f"threads = {self.threads}, but TensorFlow's threads are those of the whole worker: start "
        "it with TF_NUM_INTRAOP_THREADS in its environment, or choose another runtime"
      )
