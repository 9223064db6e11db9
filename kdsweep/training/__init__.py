"""Training of a cohort: engine, online step, losses on labels, metrics, checkpoints.

Import from the modules: ``training.report`` must be usable without loading torch.
"""
