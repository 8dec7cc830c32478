"""A leaderboard as a static site, made of published folders and runs.

* :mod:`.folders`: what is read, and that it is whole.
* :mod:`.groups`: which folders compare, and why others do not; agents of one name told apart.
* :mod:`.tables`: the columns.
* :mod:`.models`: models over their trainings.
* :mod:`.site`: the page and the reports beside it, written whole.
"""

from lram.reports.leaderboard_site.site import write_site

__all__ = ["write_site"]
