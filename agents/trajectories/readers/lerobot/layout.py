"""Names and places in a LeRobot data set of version 3, for reading and for writing.

::

    DATASET/
        meta/info.json                              version, fps, features, templates of paths
        meta/stats.json                             of each feature: min, max, mean, std, count, quantiles
        meta/tasks.parquet                          task_index by the task's text
        meta/episodes/chunk-000/file-000.parquet    a row an episode: length, and where rows and frames lie
        meta/lram.json                              of lram's exports: what LeRobot has no place for
        data/chunk-000/file-000.parquet             a row a frame, episodes one after the other
        videos/KEY/chunk-000/file-000.mp4           frames of a camera, episodes one after the other

Source: ``src/lerobot/datasets/utils.py`` of LeRobot 0.4.4, and data sets that it wrote.
"""

from __future__ import annotations

from typing import Any

VERSION = "v3.0"
INFO_FILE = "meta/info.json"
STATS_FILE = "meta/stats.json"
TASKS_FILE = "meta/tasks.parquet"
OURS_FILE = "meta/lram.json"
EPISODES_FOLDER = "meta/episodes"
FILE_TEMPLATE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_TEMPLATE = f"{EPISODES_FOLDER}/{FILE_TEMPLATE}.parquet"
DATA_TEMPLATE = f"data/{FILE_TEMPLATE}.parquet"
VIDEO_TEMPLATE = f"videos/{{video_key}}/{FILE_TEMPLATE}.mp4"

CHUNK_FILES = 1000
"""Files of a chunk's folder, at most."""

DATA_MEGABYTES = 100
VIDEO_MEGABYTES = 200
"""After so much a new file is begun."""

STATE, ENVIRONMENT_STATE = "observation.state", "observation.environment_state"
IMAGE = "observation.image"
IMAGES = "observation.images."
ACTION, REWARD, DONE = "action", "next.reward", "next.done"
TRUNCATED, SUCCESS, SIGNAL = "next.truncated", "next.success", "next.signal"
TIME, FRAME, EPISODE, INDEX, TASK = "timestamp", "frame_index", "episode_index", "index", "task_index"

INDEX_FEATURES: dict[str, dict[str, Any]] = {
    TIME: {"dtype": "float32", "shape": [1], "names": None},
    FRAME: {"dtype": "int64", "shape": [1], "names": None},
    EPISODE: {"dtype": "int64", "shape": [1], "names": None},
    INDEX: {"dtype": "int64", "shape": [1], "names": None},
    TASK: {"dtype": "int64", "shape": [1], "names": None},
}
"""What every data set has beside its own features."""

OURS_FORMAT = "lram-lerobot"
OURS_VERSION = 1
