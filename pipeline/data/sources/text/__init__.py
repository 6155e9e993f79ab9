"""Sources of labelled texts: one module each with its `Options` and `prepare`."""
