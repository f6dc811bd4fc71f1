"""Requests that TensorFlow Serving sends to itself before it takes those of others.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from official_nasfpn.installation import is_installed

WARM_UP_FILE = Path("assets.extra", "tf_serving_warmup_requests")


def write_warm_up_requests(
  saved_model: Path, requests: Mapping[str, Mapping[str, tf.Tensor]]
) -> bool:
  """Writes one request to each signature into a SavedModel.

  Args:
    saved_model: its folder.
    requests: by signature, the inputs by name.

  Returns:
    False if `tensorflow-serving-api`, which knows how they are written, is not installed.
  """
  if not is_installed("tensorflow_serving"):
    return False
  from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

  path = saved_model / WARM_UP_FILE
  path.parent.mkdir()
  with tf.io.TFRecordWriter(str(path)) as writer:
    for signature, inputs in requests.items():
      request = predict_pb2.PredictRequest()
      request.model_spec.signature_name = signature
      for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
      log = prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
      )
      writer.write(log.SerializeToString())
  return True
