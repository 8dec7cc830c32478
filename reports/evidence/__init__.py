"""What runs and trainings recorded, read and checked to agree."""
