"""A recipe whose trials take one second."""

RECIPE = """
Detector.backbone = 'R-10'
Detector.backbone_width = 0.25
Detector.num_repeats = 1
Detector.num_filters = 8
Detector.head_num_convs = 1
Detector.image_size = (128, 128)
Detector.anchor_size = 2.0
Detector.norm_momentum = 0.9
# After so little training scores are low; without detections all rewards would be alike.
Detector.score_threshold = 0.0001
Training.batch_size = 4
Training.epochs = 1
Training.learning_rate = 0.3
Training.warmup_epochs = 0
Training.evaluation_batch_size = 8
Proxy.warmup_epochs = 2
Proxy.epochs = 0.5
Search.algorithm = @RandomSearch()
"""
