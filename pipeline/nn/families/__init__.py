"""Families of encoders, one module each: `build`, and what carries saved weights to another input size.

`build(size)` makes one from its entry in `config/models/<family>.yaml`. Where it names them, it also gets `image_size`
(height, width), `drop_path` and `num_frames`, which are the recipe's, and the task's when a saved encoder is loaded.
`of_images(size, state, image_size, drop_path)` makes one of images from saved weights, where the family is
of another kind.
"""
