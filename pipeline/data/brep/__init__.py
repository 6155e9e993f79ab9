"""Boundary representations: solids of OpenCASCADE read from STEP, as graphs of numbers and as samples of their faces.

OpenCASCADE is imported where it is used: it takes two seconds.
"""
