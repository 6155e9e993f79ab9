"""Building blocks shared by methods and tasks: encoders behind one face, decoders, position embeddings.

Nothing here knows of a method, a task or a data set.
"""
