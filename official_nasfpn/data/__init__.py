"""Data: COCO JSON to TFRecords, the embedded dataset, the input pipeline.

The names exported here need no TensorFlow. `input_pipeline` and `preprocessing` do; import those
modules where tensors are made.
"""

from official_nasfpn.data.config import InputConfig
from official_nasfpn.data.dataset_info import DatasetInfo
from official_nasfpn.data.label_map import Category, LabelMap

__all__ = ["Category", "DatasetInfo", "InputConfig", "LabelMap"]
