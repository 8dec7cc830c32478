"""A folder to hand around: runs, their report, where they were made, and a card that says what it is.

* :mod:`.cleaning`: what names a user, a machine or a path of it is taken out of texts.
* :mod:`.copying`: a copy of a run that is a run still, its checksums right.
* :mod:`.manifest`: what a publication holds, with the SHA-256 of every file; how one is read.
* :mod:`.checkpoint`: which weights a model card is about.
* :mod:`.cards`: ``README.md`` and ``.eval_results/`` as the Hugging Face hub reads them.
* :mod:`.publication`: all of it, written whole.
"""

from lram.reports.publishing.manifest import Manifest, Publication, read_publication
from lram.reports.publishing.publication import PublishRequest, publish

__all__ = ["Manifest", "Publication", "PublishRequest", "publish", "read_publication"]
