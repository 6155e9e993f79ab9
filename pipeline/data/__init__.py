"""Data: preparation of real and embedded data sets, packed readers, transforms and repeatable draws.

`prepare` and `sources/` write packs and import no torch; `images`, `transforms` and `draws` feed training
from them.
"""
