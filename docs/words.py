"""Words for the keys that are no fields of a typed model; docs/reference.py holds them against the code."""

STUDY = {
    "scale": "the section of every recipe and protocol that is read: `paper`, `demo` or one of your own",
    "seeds": "a list of whole numbers; each run is pretrained once with each",
    "data": "name to data set",
    "runs": "name to run",
    "tasks": "name to task; each measures every run it applies to, unless it lists some",
    "cluster": "stage or task to what its jobs ask for",
    "tuning": "path of the study by which settings were chosen, for the report to tell",
}
DATA_SET = {"source": "where it comes from, which also says of which kind it is"}
RUN = {
    "method": "a recipe of `config/recipes/`",
    "data": "the set it learns from, where the study has several of its kind",
    "set": "changes of the recipe by dotted name: `{options.mask_ratio: 0.5}`",
    "seeds": "fewer seeds than the study has",
    "teacher": "the run it learns from, at the same seed",
    "weights": "the file of released weights that is read instead of training",
    "cluster": "stage or task to what its jobs of this run ask for",
}
TASK = {
    "seeds": "those of the pretrained seeds that are measured",
    "task": "its protocol in `config/tasks/`, where the task has another name",
    "data": "the set it reads, where the study has several of its kind",
    "runs": "the runs it measures, in place of all it applies to",
    "set": "changes of the protocol by dotted name: `{train.duration: 300 steps}`",
    "note": "a sentence that the report prints below its tables",
}
MANIFEST = {
    "format": "of the manifest itself; another one is refused",
    "stage": "`prepare`, `pretrain` or the task",
    "study": "name of the study; not of `prepare`, nor the next three",
    "run": "name of the run",
    "method": "its recipe",
    "seed": "a whole number",
    "key": "what tells this work from others: a digest of stage, seed, inputs, weights and the settings that decide it",
    "command": "the one line that makes this result",
    "settings": "every number that it was made with, threads included",
    "inputs": "part (`data`, `teacher`, `encoder`) to the `manifest` that was read, and its `digest` then",
    "digest": "SHA-256 over the names and digests of all artefacts",
    "records": "what was measured, see below",
    "pictures": "`path` and `caption` of what the report shows",
    "cost": "seconds, samples, device and the like, and `peak_memory_gib`",
    "provenance": "where, when and with what it ran, see below",
    "artefacts": "file to its `sha256` and `bytes`",
    "seal": "SHA-256 of all of the above",
    "data": "of `prepare`: splits with their counts, classes, rejects and notes",
}
RECORD = {
    "metric": "its name, such as `top1`",
    "value": "a number",
    "unit": "`%` or another; null for none",
    "higher_is_better": "true or false",
    "count": "how many items were tested",
    "interval": "[low, high] of 95 % within this cell, or null; see [what it means](../explanation/intervals.md)",
}
PROVENANCE = {
    "commit": "of the code; null in a tree without git",
    "dirty": "whether tracked files had changes that were not committed",
    "lock_sha256": "of `envs/requirements.lock`",
    "host": "name of the machine",
    "system": "its operating system",
    "processor": "its processor's own name",
    "python": "version",
    "packages": "versions of torch, timm, mmengine and numpy",
    "started": "time in UTC",
    "finished": "time in UTC",
}
