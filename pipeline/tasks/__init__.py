"""Downstream protocols: each measures a pretrained encoder in one way and returns records.

mmdet and mmseg are met only in `detect.py` and `segment.py`.
"""
