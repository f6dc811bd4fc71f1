"""Parameters, multiply-adds and memory of a built detector, read off its traced graph.

The tests compare `modeling/closed_form.py` with this.
"""

import math
from collections.abc import Mapping

import tensorflow as tf

from official_nasfpn.modeling.detector import Detector
from official_nasfpn.modeling.layer_sizes import Size


def measure_size(detector: Detector) -> dict[str, Size]:
  """Counts parameters and multiply-adds without running the network.

  Args:
    detector: a built detector.

  Returns:
    The size of each part under `backbone`, `lateral_projections`, `pyramid` and `heads`.
  """
  laterals = [
    variable
    for lateral in detector.pyramid.laterals.values()
    for variable in lateral.trainable_variables
  ]
  # Heads may share convolutions.
  heads = (*detector.early_heads, detector.head)
  of_laterals = {id(variable) for variable in laterals}
  parts = {
    "backbone": detector.backbone.trainable_variables,
    "lateral_projections": laterals,
    "pyramid": [v for v in detector.pyramid.trainable_variables if id(v) not in of_laterals],
    "heads": list({id(v): v for head in heads for v in head.trainable_variables}.values()),
  }
  multiply_adds = multiply_adds_by_variable(_trace(detector))
  return {
    part: Size(
      parameters=sum(variable.shape.num_elements() for variable in variables),
      multiply_adds=sum(multiply_adds.get(id(variable.handle), 0) for variable in variables),
    )
    for part, variables in parts.items()
  }


def stored_activation_bytes(detector: Detector) -> int:
  """Returns the bytes of activations that the backward pass of one image needs.

  A train step is traced, not run, under the current precision policy: every tensor made by the
  forward pass and read by the backward pass is counted once. Workspace of the operations is not,
  and a compiler may keep less.
  """

  def gradients(image: tf.Tensor) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
      outputs = tf.nest.flatten(detector(image, training=True))
      loss = tf.add_n([tf.reduce_sum(map) for map in outputs])
    forward.extend(tf.compat.v1.get_default_graph().get_operations())
    return tape.gradient(loss, detector.trainable_variables)

  forward: list[tf.Operation] = []
  image = tf.TensorSpec([1, *detector.backbone.input_shape[1:]])
  graph = tf.function(gradients).get_concrete_function(image).graph
  stored = {
    tensor.ref(): tensor
    for operation in graph.get_operations()[len(forward) :]
    for tensor in operation.inputs
  }
  made_forward = {output.ref() for operation in forward for output in operation.outputs}
  return sum(
    tensor.shape.num_elements() * tensor.dtype.size
    for reference, tensor in stored.items()
    if reference in made_forward and not _is_a_weight(tensor) and tensor.shape.rank
  )


def _is_a_weight(tensor: tf.Tensor) -> bool:
  """Returns whether the tensor is a variable, a constant, or one of them cast."""
  operation = tensor.op
  while operation.type in ("Cast", "ReadVariableOp", "Identity"):
    operation = operation.inputs[0].op
  return operation.type in ("Placeholder", "Const")


def _trace(detector: Detector) -> tf.Graph:
  """Returns the graph of the forward pass of one image, which is not run."""
  image = tf.TensorSpec([1, *detector.backbone.input_shape[1:]])
  function = tf.function(lambda images: detector(images, training=False))
  return function.get_concrete_function(image).graph


def multiply_adds_by_variable(graph: tf.Graph) -> Mapping[int, int]:
  """Returns the multiply-adds of a traced function by the id of the kernel's resource handle.

  A convolution belongs to the part that owns its kernel, however the scopes of operations are
  named.
  """
  handles = {id(inner): id(outer) for outer, inner in graph.captures}
  totals: dict[int, int] = {}
  for operation in graph.get_operations():
    if operation.type in _KERNEL_USES_PER_OUTPUT:
      kernel = operation.inputs[1]
      uses = _KERNEL_USES_PER_OUTPUT[operation.type](kernel.shape)
      handle = handles[id(_source(kernel))]
      count = operation.outputs[0].shape.num_elements() * uses
      totals[handle] = totals.get(handle, 0) + count
  return totals


# Multiply-adds for one number of the output, from the shape of the kernel.
_KERNEL_USES_PER_OUTPUT = {
  "Conv2D": lambda kernel: math.prod(kernel[:3]),
  "DepthwiseConv2dNative": lambda kernel: math.prod(kernel[:2]),
}


def _source(tensor: tf.Tensor) -> tf.Tensor:
  """Returns the captured variable that a kernel is read, and perhaps cast, from."""
  while tensor.op.type != "Placeholder":
    tensor = tensor.op.inputs[0]
  return tensor
