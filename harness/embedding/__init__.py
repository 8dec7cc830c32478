"""Hidden states of models over stored trajectories: which are taken, their projections, and their folder."""
