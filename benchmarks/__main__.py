"""Run every benchmark: `make bench`."""

from benchmarks import mae_step

mae_step.main()
