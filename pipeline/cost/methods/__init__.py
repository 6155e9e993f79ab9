"""One file per method: what one sample of its training step costs; `pipeline/methods/` has the steps themselves.

Each has `step(settings, encoder, teacher)`: the recipe, the encoder that is trained, and that of the run it learns
from, on as many patches, or None. A method without a file here is planned as unknown.
"""
