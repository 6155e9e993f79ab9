"""Run every benchmark: `make bench`."""

from benchmarks import loader, mae_step, method_steps, scenes

loader.main()
print()
scenes.main()
print()
mae_step.main()
print()
method_steps.main()
