"""Families of encoders, one module each: `build`, and what carries saved weights to another input size."""
