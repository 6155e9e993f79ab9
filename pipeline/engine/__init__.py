"""Training: MMEngine's Runner with our own loop, sampler, checkpoints and hooks.

`fit` drives every training of the project; randomness, resumption and preemption are settled here, once.
"""
