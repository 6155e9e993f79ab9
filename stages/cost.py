"""What a study costs before anything is run: device-hours, wall clock, energy, disk, and its longest chain.

Reads:  the study, its recipes and protocols, and the manifests of sets that are prepared
Writes: nothing

Ends with an error where a job does not end within the hours that it asks for.
"""

import argparse
import sys

from pipeline.config import ConfigError, load_study
from pipeline.cost.estimate import Forecast
from pipeline.cost.words import affordable, check, report
from pipeline.devices import DEVICES


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", required=True, metavar="FILE", help="the study, such as config/paper.yaml")
    parser.add_argument("--device", default="H100", help=f"which the GPUs are; by default H100 ({', '.join(DEVICES)})")
    parser.add_argument("--devices", type=int, metavar="N", help="how many there are, for the wall clock")
    parser.add_argument("--mfu", type=float, metavar="SHARE", help="of their peak that is reached, such as 0.4")
    parser.add_argument("--budget", type=float, metavar="HOURS", help="list the runs that fit so many device-hours")
    arguments = parser.parse_args()
    try:
        for name, least, most in (("devices", 1, 10**6), ("mfu", 0.001, 1.0), ("budget", 0.0, 1e12)):
            value = getattr(arguments, name)
            if value is not None and not least <= value <= most:
                raise ConfigError(f"--{name} is {value:g}; expected a number from {least:g} to {most:g}")
        forecast = Forecast(load_study(arguments.study), arguments.device, arguments.mfu)
        if arguments.budget is not None:
            print(affordable(forecast, arguments.budget))
            return
        print(report(forecast, arguments.devices))
        check(forecast)
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
