"""The library behind the stages: methods, engine, tasks, data and report."""
