"""Episodes being played: lanes, the loop over them, and their schedule."""
