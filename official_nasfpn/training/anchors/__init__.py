"""How well anchors fit the boxes of a dataset: measured, suggested, shown."""
