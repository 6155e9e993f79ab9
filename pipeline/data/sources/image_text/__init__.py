"""Sources of images with captions: one module each with its `Options` and `prepare`."""

READS_AS = ("images",)  # packs and classes are those of images; captions lie beside them
