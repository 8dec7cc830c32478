"""Studies of precisions: what rounded weights cost a checkpoint in score, and save in time and memory."""
