"""Records on disk: what an episode gave, what a record must be, and the folders that hold them."""
