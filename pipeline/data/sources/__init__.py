"""Where data come from: one module per source, each with `Options` and `prepare(options, work, files)`.

`imagenet`, `coco` and `ade20k` read the official layouts; the others write an embedded set in such a layout
first.
"""
