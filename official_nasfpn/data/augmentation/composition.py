"""In which order the augmentations of a recipe are applied to one training image.

1. A mosaic of the image and three others; or the image, as a random crop or whole, flipped, scaled
   and cropped as always.
2. Boxes of another image are pasted.
3. Mixup with another image.
4. Colours are changed.
5. RandAugment.

All numbers are drawn from the seed of the image: neither threads nor the order of parsing matter.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from official_nasfpn.data.augmentation.color_jitter import jitter_colors
from official_nasfpn.data.augmentation.mixing import MOSAIC_IMAGES, mixup, mosaic, paste_boxes
from official_nasfpn.data.augmentation.rand_augment import rand_augment
from official_nasfpn.data.augmentation.views import Photo, View, plain_view, random_crop
from official_nasfpn.data.config import InputConfig

# What is drawn for each of these does not depend on which others a recipe has.
_CHANCES, _MOSAIC, _CROP, _PASTE, _OTHER, _MIXUP, _COLORS, _RAND_AUGMENT = range(8)


class Augmented(NamedTuple):
  """A view, and how it came about.

  Attributes:
    view: the view.
    names: what was done, string [n].
  """

  view: View
  names: tf.Tensor


def num_others(config: InputConfig) -> int:
  """Returns how many other images may be mixed into one image."""
  mosaic_others = MOSAIC_IMAGES - 1 if config.mosaic else 0
  return mosaic_others + (config.copy_paste > 0) + (config.mixup > 0)


def augmented_view(
  records: Sequence[tf.Tensor],
  decode: Callable[[tf.Tensor], Photo],
  config: InputConfig,
  image_size: tuple[int, int],
  seed: tf.Tensor,
) -> Augmented:
  """Returns what training sees of an image.

  Args:
    records: the image and `num_others` other images, as they are in their files. One that is not
      used is not decoded.
    decode: decodes a record.
    config: the settings.
    image_size: height and width of the network's input.
    seed: int64 [2], decides all.
  """
  if not config.augmentations:
    view = plain_view(decode(records[0]), config, image_size, seed)
    return Augmented(view, tf.constant([], tf.string))

  seed_of = functools.partial(tf.random.experimental.stateless_fold_in, seed)
  shares = tf.constant([config.mosaic, config.random_crop, config.copy_paste, config.mixup])
  happens = tf.random.stateless_uniform([4], seed_of(_CHANCES)) < shares
  is_mosaic, is_cropped, is_pasted_on, is_blended = tf.unstack(happens)
  photo, others = decode(records[0]), iter(records[1:])

  def single() -> View:
    if not config.random_crop:
      return plain_view(photo, config, image_size, seed)
    source = tf.cond(
      is_cropped, lambda: random_crop(photo, config.min_visible, seed_of(_CROP)), lambda: photo
    )
    return plain_view(source, config, image_size, seed)

  if config.mosaic:
    mosaic_others = [next(others) for _ in range(MOSAIC_IMAGES - 1)]
    view = tf.cond(
      is_mosaic,
      lambda: mosaic([photo, *map(decode, mosaic_others)], config, image_size, seed_of(_MOSAIC)),
      single,
    )
  else:
    view = single()
  if config.copy_paste:
    source = next(others)
    view = _if(
      is_pasted_on,
      view,
      lambda view: paste_boxes(view, decode(source), config, image_size, seed_of(_PASTE)),
    )
  if config.mixup:
    other = next(others)
    view = _if(
      is_blended,
      view,
      lambda view: mixup(
        view, plain_view(decode(other), config, image_size, seed_of(_OTHER)), seed_of(_MIXUP)
      ),
    )
  if config.color_jitter:
    image = jitter_colors(view.image, config.color_jitter, seed_of(_COLORS))
    view = view._replace(image=image)
  names = {
    "mosaic": is_mosaic,
    "random crop": is_cropped & ~is_mosaic,
    "copy-paste": is_pasted_on,
    "mixup": is_blended,
    "colours": tf.constant(config.color_jitter > 0),
  }
  done = tf.boolean_mask(list(names), tf.stack(list(names.values())))
  if config.rand_augment:
    view, operations = rand_augment(
      view,
      config.rand_augment,
      config.rand_augment_magnitude,
      config.min_visible,
      seed_of(_RAND_AUGMENT),
    )
    done = tf.concat([done, operations], axis=0)
  return Augmented(view, done)


def _if(happens: tf.Tensor, view: View, change: Callable[[View], View]) -> View:
  return tf.cond(happens, lambda: change(view), lambda: view)
