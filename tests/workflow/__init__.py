"""Both faces of the workflow, resolved and run for real."""
