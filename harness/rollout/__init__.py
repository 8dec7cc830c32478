"""Episodes being played: lanes, the loop over them, their schedule and their seeds."""
