"""Sources of videos with their optical flow and sound: one module each with its `Options` and `prepare`."""

READS_AS = ("video",)  # packs and classes are those of videos; flow and sound lie beside them
