"""What the tasks on solids share: codes of frozen encoders, few-shot heads and their curves, pictures."""
