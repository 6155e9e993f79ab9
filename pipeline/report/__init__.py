"""Records to tables, figures and pages: a view over manifests that measures nothing itself.

Never imports torch, so a report can be rebuilt where nothing can be trained.
"""
