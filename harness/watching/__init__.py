"""The checkpoints of a training, scored one by one as they appear: ``lram watch``."""
