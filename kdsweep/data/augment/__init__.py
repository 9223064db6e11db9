"""Augmentation of the training split, repeatable frame by frame.

``presets`` says what may be done, ``draws`` what is done to one frame; ``on_cpu`` does it frame by
frame, ``batch_draws`` and ``on_device`` to whole batches on the device that trains. ``pipeline`` is
for a pipeline of the user's own, which draws for itself.
"""
