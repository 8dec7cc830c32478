"""Files of every format that lram reads, damaged at random, and how each reader ends."""
