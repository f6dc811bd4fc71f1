"""A detector's network on the runtimes that may serve it, to be timed and weighed.

It is the network alone, whose latency does not depend on its weights: decoding of boxes and
non-maximum suppression are the same for all architectures. `serving/export/` converts all of it.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from official_nasfpn.architecture import PyramidSpec
from official_nasfpn.installation import require
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.search.proxy.config import LatencyConfig

# As `serving/export/onnx_file.py` has it.
_OPSET = 17
# As `serving/detectors/tflite_runtime.py` has it.
_LITERT_THREADS = 2
# TensorFlow's option to rewrite sums and products; on, unless it is set.
_REWRITES = "arithmetic_optimization"


class ServedNetwork(NamedTuple):
  """A network on a runtime.

  Attributes:
    run: detects in one image, and waits for the outputs.
    file_bytes: size of the model's file; of TensorFlow, of the variables in its SavedModel.
    where: runtime, threads and device, for people.
  """

  run: Callable[[], object]
  file_bytes: int
  where: str


def require_runtime(config: LatencyConfig) -> None:
  """Checks that the packages of a runtime are installed, without importing them.

  Raises:
    UserError: one is missing.
  """
  what = f"Latency.runtime = {config.runtime!r}"
  require(what, *_PACKAGES[config.runtime], otherwise="Or measure on 'tensorflow'.")


@contextlib.contextmanager
def served_network(
  config: DetectorConfig,
  num_classes: int,
  spec: PyramidSpec,
  latency: LatencyConfig,
  compute_dtype: str,
) -> Iterator[ServedNetwork]:
  """Builds a detector with its initial weights, and loads its network into a runtime.

  Within the block TensorFlow computes as where the detector is served, whatever trainings in this
  process have set, and so it is the same before the first training and after any.

  Args:
    config: settings of the detector.
    num_classes: object classes, without a background class.
    spec: the pyramid, which replaces that of the settings.
    latency: names the runtime and its threads.
    compute_dtype: `Training.compute_dtype`, in which a SavedModel computes. The other runtimes get
      float32, as `serving/export/model_file.py` has it.

  Yields:
    The network, to be run within the block.
  """
  import tensorflow as tf

  from official_nasfpn.modeling.detector import build_detector
  from official_nasfpn.training.number_format import settled_compute_dtype

  on_tensorflow = latency.runtime == "tensorflow"
  with _served_as(settled_compute_dtype(compute_dtype) if on_tensorflow else "float32"):
    detector = build_detector(dataclasses.replace(config, architecture=spec), num_classes)

    def network(image: tf.Tensor) -> dict[str, tf.Tensor]:
      outputs = tf.nest.flatten(detector(image, training=False))
      return {f"output_{index}": output for index, output in enumerate(outputs)}

    signature = [tf.TensorSpec([1, *config.image_size, 3], tf.float32, name="image")]
    function = tf.function(network, input_signature=signature, jit_compile=False)
    yield _SERVE[latency.runtime](detector, function, latency.threads)


@contextlib.contextmanager
def _served_as(policy: str) -> Iterator[None]:
  """Sets Keras's precision policy, and TensorFlow's options as where a model is served."""
  import tensorflow as tf
  import tf_keras

  former = tf_keras.mixed_precision.global_policy()
  rewrites = tf.config.optimizer.get_experimental_options().get(_REWRITES, True)
  tf_keras.mixed_precision.set_global_policy(policy)
  # Trainings switch it off for the process (`training/runner.py`); who serves a model has it on.
  tf.config.optimizer.set_experimental_options({_REWRITES: True})
  try:
    yield
  finally:
    tf_keras.mixed_precision.set_global_policy(former)
    tf.config.optimizer.set_experimental_options({_REWRITES: rewrites})


def _on_tensorflow(detector, function, threads: int) -> ServedNetwork:
  del threads  # `LatencyConfig` refuses them.
  import tensorflow as tf

  image = tf.zeros(function.input_signature[0].shape)
  own = tf.config.threading.get_intra_op_parallelism_threads()
  where = f"TensorFlow {tf.__version__}, {_device(own, gpu=True)}"
  return ServedNetwork(
    lambda: tf.nest.map_structure(lambda output: output.numpy(), function(image)),
    sum(variable.dtype.size * variable.shape.num_elements() for variable in detector.variables),
    where,
  )


def _on_onnxruntime(detector, function, threads: int) -> ServedNetwork:
  del detector
  import logging

  import numpy as np
  import onnxruntime
  import tensorflow as tf
  import tf2onnx

  logging.getLogger("tf2onnx").setLevel(logging.ERROR)
  with tf.device("CPU:0"):
    model, _ = tf2onnx.convert.from_function(
      function, input_signature=function.input_signature, opset=_OPSET
    )
  content = model.SerializeToString()
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  session = onnxruntime.InferenceSession(
    content, options, providers=onnxruntime.get_available_providers()
  )
  image = np.zeros(function.input_signature[0].shape, np.float32)
  gpu = session.get_providers()[0] != "CPUExecutionProvider"
  where = f"ONNX Runtime {onnxruntime.__version__}, {_device(threads, gpu=gpu)}"
  return ServedNetwork(lambda: session.run(None, {"image": image}), len(content), where)


def _on_litert(detector, function, threads: int) -> ServedNetwork:
  import importlib.metadata

  import numpy as np
  import tensorflow as tf
  from ai_edge_litert.interpreter import Interpreter

  module = tf.Module()
  module.detector_variables = detector.variables
  concrete = [function.get_concrete_function()]
  content = tf.lite.TFLiteConverter.from_concrete_functions(concrete, module).convert()
  threads = threads or _LITERT_THREADS
  interpreter = Interpreter(model_content=content, num_threads=threads)
  interpreter.allocate_tensors()
  runner = interpreter.get_signature_runner()
  image = np.zeros(function.input_signature[0].shape, np.float32)
  version = importlib.metadata.version("ai-edge-litert")
  where = f"LiteRT {version}, {_device(threads, gpu=False)}"
  return ServedNetwork(lambda: runner(image=image), len(content), where)


def _device(threads: int, gpu: bool) -> str:
  """Returns threads and device in words.

  Args:
    threads: of the runtime; 0 for one on each core.
    gpu: whether the runtime uses a GPU, if there is one.
  """
  import tensorflow as tf

  from official_nasfpn.training.narration import processor_name

  gpus = tf.config.list_physical_devices("GPU") if gpu else []
  if gpus:
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
  threads = threads or len(os.sched_getaffinity(0))
  return f"{threads} thread{'s' if threads > 1 else ''} of {processor_name()}"


_SERVE: dict[str, Callable[..., ServedNetwork]] = {
  "tensorflow": _on_tensorflow,
  "onnxruntime": _on_onnxruntime,
  "litert": _on_litert,
}
_PACKAGES: dict[str, tuple[str, ...]] = {
  "tensorflow": (),
  "onnxruntime": ("tf2onnx", "onnx", "onnxruntime"),
  "litert": ("ai_edge_litert",),
}
