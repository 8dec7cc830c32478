"""What is measured where there is a GPU: ``run.sh`` writes one JSON, ``page.py`` makes the page of it."""
