"""Run every benchmark: `make bench`."""

from benchmarks import mae_step, method_steps

mae_step.main()
print()
method_steps.main()
