"""What a round of either side does: calls, input, loading and requests, timed in the same way."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peer_comparison.measuring import Round, timed

if TYPE_CHECKING:
  import tensorflow as tf
  import tf_keras

BATCH_SIZE = 4
_CALLS = 5
# Images that the input pipeline gives in a round at 256 pixels; fewer at a larger size.
_INPUT_IMAGES = 320
# For an idle pipeline to fill its buffers.
_SECONDS_TO_FILL = 1


def warm(measure: Callable[[], Round]) -> Callable[[], Round]:
  """Returns the function, after one round that counts for nothing."""
  measure()
  return measure


def seconds_of_a_call(function: Callable[[], "tf.Tensor"]) -> float:
  """Returns the mean seconds of a few calls of a function that returns a tensor."""

  def call() -> None:
    for _ in range(_CALLS):
      function().numpy()

  return timed(call)[0] / _CALLS


def time_calls(function: Callable[[], "tf.Tensor"]) -> Callable[[], Round]:
  """Returns what measures the seconds of a call of a function that returns a tensor."""
  return warm(lambda: Round(seconds_of_a_call(function)))


def forward_and_backward(forward: Callable, model: "tf_keras.Model") -> Callable[[], "tf.Tensor"]:
  """Returns a traced function of a forward and a backward pass."""
  import tensorflow as tf

  @tf.function
  def step() -> "tf.Tensor":
    with tf.GradientTape() as tape:
      outputs = tf.nest.flatten(forward())
      loss = tf.add_n([tf.reduce_sum(tf.cast(maps, tf.float32) ** 2) for maps in outputs])
    gradients = tape.gradient(loss, model.trainable_variables)
    return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

  return step


def drawn_after(outputs: Sequence["tf.Tensor"], drawn: Any, zero: "tf.Variable") -> Any:
  """Returns drawn tensors as something that cannot be computed before the outputs are.

  TensorFlow would leave out outputs that nothing but a control dependency needs.

  Args:
    outputs: of a network.
    drawn: nested float tensors to go on with instead.
    zero: a variable that is 0, which TensorFlow does not know.
  """
  import tensorflow as tf

  total = tf.add_n([tf.reduce_sum(output) for output in outputs])
  # Finite, whatever a network makes of weights that were not trained.
  nothing = zero * tf.cast(total > 0, tf.float32)
  return tf.nest.map_structure(lambda tensor: tensor + nothing, drawn)


def processor_time_of_an_image(iterator: Iterator, image_size: int) -> Round:
  """Returns processor seconds an image. The buffers are full before the count and after it."""
  num_batches = max(1, _INPUT_IMAGES * 256**2 // image_size**2 // BATCH_SIZE)
  next(iterator)
  time.sleep(_SECONDS_TO_FILL)
  processor = time.process_time()
  seconds, _ = timed(lambda: [next(iterator) for _ in range(num_batches)])
  time.sleep(_SECONDS_TO_FILL)
  processor = time.process_time() - processor
  num_images = BATCH_SIZE * num_batches
  return Round(processor / num_images, {"images a second": num_images / seconds})


def time_loading(saved_model: Path) -> Round:
  """Returns the seconds of loading a SavedModel."""
  import tensorflow as tf

  return Round(timed(lambda: tf.saved_model.load(str(saved_model)))[0])


def time_requests(detect: Callable, images: Sequence["tf.Tensor"]) -> Callable[[], Round]:
  """Returns what measures requests of single images, one after another."""
  import numpy as np

  def answer(image: "tf.Tensor") -> int:
    outputs = {name: value.numpy() for name, value in detect(image).items()}
    return int(outputs["num_detections"][0])

  def measure() -> Round:
    answers = [timed(lambda image=image: answer(image)) for image in images]
    seconds, detections = zip(*answers, strict=True)
    return Round(float(np.median(seconds)), {"detections": float(np.mean(detections))})

  return warm(measure)
