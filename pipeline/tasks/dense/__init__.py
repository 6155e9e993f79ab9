"""What detection and segmentation share: a ViT that gives maps, pyramids over it, packed data, pictures.

Neither mmdet nor mmseg is met here, only in `tasks/detect.py` and `tasks/segment.py`.
"""
