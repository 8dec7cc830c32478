"""What becomes of scores and predictions at contexts below and beyond the trained length."""
