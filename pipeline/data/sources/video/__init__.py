"""Sources of videos: one module each with its `Options` and `prepare`."""
