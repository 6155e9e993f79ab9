"""Which patches are hidden. Masks are boolean over patches only; True is hidden.

Randomness comes in as an argument, so that any other implementation's mask can be replayed.
"""
