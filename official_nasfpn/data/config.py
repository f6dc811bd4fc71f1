"""Settings of the input pipeline, bound in recipes as `Input.field = value`."""

import dataclasses
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from official_nasfpn.configuration import configurable, settings

# In pixels of the network's input. Boxes of which scaling and cropping leave less are dropped.
MIN_BOX_SIDE = 1.0
Share = Annotated[float, Field(ge=0, le=1)]
# Those that are off in the paper's recipes; each is described in the class.
_AUGMENTATIONS = (
  "mosaic",
  "random_crop",
  "copy_paste",
  "mixup",
  "color_jitter",
  "rand_augment",
)


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
    mosaic: share of the images that become one of four, each joined with three others around a
      point; objects are smaller there, down to half of `scale_min`.
    random_crop: share of the other images of which a random part is taken first, three tenths of
      the image or more, with at least one object whole.
    copy_paste: share of the images that get one to three objects of another image, as the
      rectangles of their boxes, where they hide least.
    mixup: share of the images that are blended with another one, about half and half, with the
      boxes of both.
    color_jitter: brightness, contrast and saturation are multiplied by up to 1 plus or minus this;
      0 changes nothing, 0.4 is common.
    rand_augment: operations of RandAugment on every image, drawn from fourteen on colours and
      geometry; 0 is off, 1 or 2 are common.
    rand_augment_magnitude: how far each of them goes; at 10, 30 degrees and factors of 0.1 or 1.9.
    min_visible: of a box that these augmentations cut or hide so much must be left, or it is not
      trained on. The scale jitter keeps any box of a pixel.
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
  mosaic: Share = 0.0
  random_crop: Share = 0.0
  copy_paste: Share = 0.0
  mixup: Share = 0.0
  color_jitter: Share = 0.0
  rand_augment: Annotated[NonNegativeInt, Field(le=5)] = 0
  rand_augment_magnitude: Annotated[PositiveFloat, Field(le=10)] = 5.0
  min_visible: Share = 0.25
  max_num_boxes: PositiveInt = 100
  shuffle_buffer: PositiveInt = 1000

  def __post_init__(self) -> None:
    if self.scale_min > self.scale_max:
      raise ValueError(f"scale_min {self.scale_min} is greater than scale_max {self.scale_max}")

  @property
  def augmentations(self) -> dict[str, float]:
    """The augmentations beside flip and scale that are on, with their values."""
    values = {name: getattr(self, name) for name in _AUGMENTATIONS}
    return {name: value for name, value in values.items() if value}

  def only(self, augmentation: str | None) -> "InputConfig":
    """Returns the settings with one augmentation alone, on every image; None for none of them."""
    values: dict[str, float] = dict.fromkeys(_AUGMENTATIONS, 0)
    if augmentation:
      value = getattr(self, augmentation)
      values[augmentation] = value if augmentation in ("color_jitter", "rand_augment") else 1
    return dataclasses.replace(self, **values)

  def note(self) -> str | None:
    """Returns what a person should know before an evaluation; None if there is nothing."""
    if self.evaluation_part not in self.train_parts:
      return None
    return (
      f"Input.train_parts holds {self.evaluation_part!r}, which is evaluated on: the AP is of "
      "images that were trained on, and says nothing about others."
    )
