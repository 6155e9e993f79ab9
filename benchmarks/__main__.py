"""Run every benchmark, each in a process of its own, which gives its memory back: `make bench`."""

import subprocess
import sys

for name in ("loader", "scenes", "mae_step", "method_steps"):
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
    print(flush=True)
