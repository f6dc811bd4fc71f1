"""Settings of the input pipeline, bound in recipes as `Input.field = value`."""

from pydantic import PositiveFloat, PositiveInt

from official_nasfpn.configuration import configurable, settings

# In pixels of the network's input. Boxes of which scaling and cropping leave less are dropped.
MIN_BOX_SIDE = 1.0


@configurable("Input")
@settings
class InputConfig:
  """Which data is read, and how it is augmented.

  Attributes:
    data_dir: the folder that `nasfpn prepare` wrote.
    train_parts: parts of the dataset to train on. Full training uses train and holdout; a proxy
      trial uses train alone and is rewarded on holdout, whatever stands here. With 'val' among
      them all images are trained on, and none is left to evaluate on.
    evaluation_part: the part that evaluation reads.
    scale_min: least factor of the multi-scale jitter, relative to fitting the image size.
    scale_max: greatest factor; 1 and 1 mean no jitter. The paper uses [0.8, 1.2].
    horizontal_flip: whether half of the training images are mirrored.
    max_num_boxes: boxes per image after padding; of an image with more, a random choice is
      trained on.
    shuffle_buffer: examples held for shuffling; as many as the dataset has shuffle it fully.
  """

  data_dir: str = ""
  train_parts: tuple[str, ...] = ("train", "holdout")
  evaluation_part: str = "val"
  scale_min: PositiveFloat = 0.8
  scale_max: PositiveFloat = 1.2
  horizontal_flip: bool = True
  max_num_boxes: PositiveInt = 100
  shuffle_buffer: PositiveInt = 1000

  def __post_init__(self) -> None:
    if self.scale_min > self.scale_max:
      raise ValueError(f"scale_min {self.scale_min} is greater than scale_max {self.scale_max}")

  def note(self) -> str | None:
    """Returns what a person should know before an evaluation; None if there is nothing."""
    if self.evaluation_part not in self.train_parts:
      return None
    return (
      f"Input.train_parts holds {self.evaluation_part!r}, which is evaluated on: the AP is of "
      "images that were trained on, and says nothing about others."
    )
