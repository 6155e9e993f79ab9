"""What a study costs before it is run: arithmetic by closed formulas, hours by devices, energy, disk.

Nothing here imports PyTorch; `tests/cost/test_formulas.py` holds the formulas against its counter.
"""
