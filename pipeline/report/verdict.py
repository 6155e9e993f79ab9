"""The report in a few sentences from its records: who leads each track, what pretraining buys, what is missing."""

from __future__ import annotations

from collections import Counter

from pipeline.config import Track
from pipeline.report.grid import Grid
from pipeline.report.ranking import improvement_interval, standing
from pipeline.report.untrained import Gain, gains, is_reference

NAMED = 3  # exceptions told one by one; the leaderboard has all of them


def verdict(grid: Grid) -> list[tuple[str, str]]:
    """For each track its name and what the records say of it, then `Cells` and what became of them."""
    found = [
        (track.title, f"{_lead(grid, track)} {_gain(grid, track)}".strip()) for track in grid.study.tracks.values()
    ]
    return [*found, ("cells", _cells(grid))]


def _lead(grid: Grid, track: Track) -> str:
    """Who leads, and whether by more than the seeds' noise."""
    stand = standing(grid, track)
    ranked = [run for run in stand.ranked if not is_reference(grid, run)]
    if len(ranked) < 2:
        alone = "is the only ranked run beside untrained and supervised ones."
        return f"{ranked[0]} {alone}" if ranked else "No run was measured on all ranking tasks yet."
    first, second = ranked[:2]
    place, next_place = (f"{stand.places[run]:.1f}" for run in (first, second))
    over = f"over {'one task' if len(stand.tasks) == 1 else f'{len(stand.tasks)} tasks'}"
    if place == next_place:
        return f"{first} and {second} share the lead of {len(ranked)} runs, mean rank {place} {over}."
    told = f"{first} leads {len(ranked)} runs, mean rank {place} {over}, before {second} with {next_place}"
    pairs = [(task, grid.headline(task)[0]) for task in stand.tasks]
    span = improvement_interval(grid, pairs, [grid.higher_is_better(*pair) for pair in pairs], first, second)
    if span is None:
        return f"{told}; noise between seeds is not known."
    sure = "by more than" if span[0] > 0.5 else "within"
    return f"{told}, {sure} the noise between seeds: P(better) in [{span[0]:.2f}, {span[1]:.2f}]."


def _gain(grid: Grid, track: Track) -> str:
    """What pretraining buys, the exceptions by name."""
    found = gains(grid, track)
    if not found:
        return ""
    count = Counter(gain.verdict for gain in found)
    told = f"Training is ahead of the untrained encoder in {count['ahead']} of {len(found)} comparisons, "
    told += f"level with it in {count['level']}, behind in {count['behind']}"
    if bare := sum(gain.low is None for gain in found):
        told += f" ({bare} of the comparisons without an interval)"
    behind = [gain for gain in found if gain.verdict == "behind"]
    behind.sort(key=lambda gain: gain.lead / (abs(gain.theirs.mean) or 1))
    named = "; ".join(_exception(grid, gain) for gain in behind[:NAMED])
    more = f"; and {len(behind) - NAMED} more" if len(behind) > NAMED else ""
    return told + (f": {named}{more}." if named else ".")


def _exception(grid: Grid, gain: Gain) -> str:
    ours, theirs = (f"{one.mean:.{grid.digits(gain.task, gain.metric)}f}" for one in (gain.ours, gain.theirs))
    return f"{gain.run} in {grid.study.short(gain.task)} ({ours} against {theirs})"


def _cells(grid: Grid) -> str:
    count, total = Counter(outcome.status for outcome in grid.outcomes), len(grid.outcomes)
    if count["done"] == total:
        return f"All {total} are done."
    rest = [f"{count[status]} {status}" for status in ("failed", "damaged", "not run") if count[status]]
    return f"{count['done']} of {total} are done, {', '.join(rest)}; numbers that need them are missing."
