"""Two checkpoints against each other: one word, and what it rests on."""
