"""The library behind the stages: methods, engine, tasks, data and report.

Importing it puts off what timm, torchvision and the OpenMMLab packages would import on top of what is used.
"""

from pipeline import lazy

lazy.install()
