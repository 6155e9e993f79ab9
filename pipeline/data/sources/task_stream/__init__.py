"""Sources of streams of tasks: one module each with its `Options` and `prepare`."""
