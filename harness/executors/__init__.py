"""Where the work of a run is done: on this machine, or on a Ray cluster."""
