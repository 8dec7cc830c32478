"""References of scores: :mod:`.playing` plays, :mod:`.measuring` judges, :mod:`.writing` edits the file."""
