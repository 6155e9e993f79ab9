"""Sources of segmentation."""
