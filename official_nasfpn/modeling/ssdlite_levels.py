"""The widths of the feature maps that SSDLite adds to MobileNetV2's."""

# Of level 5: those of MobileNetV2's classifier.
LAST_CHANNELS = 1280
# Of levels 6 to 9 (TF Object Detection API, ssd_mobilenet_v2_feature_extractor.py).
EXTRA_CHANNELS = {"6": 512, "7": 256, "8": 256, "9": 128}
