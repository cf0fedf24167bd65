"""Lets threadpoolctl see and limit the threads of conv1x1.

``import conv1x1`` does not import threadpoolctl. Where threadpoolctl was imported before, it registers this controller
with it; where it comes later, ``import conv1x1.threadpoolctl`` does. After that conv1x1 takes part in
``threadpoolctl.threadpool_info``, ``threadpool_limits`` and whatever is built on them, such as joblib's workers.

>>> import numpy as np
>>> import conv1x1.threadpoolctl
>>> from threadpoolctl import threadpool_limits
>>> with threadpool_limits(limits=1, user_api="conv1x1"):
...     conv1x1.get_num_threads()
1
"""

from __future__ import annotations

from threadpoolctl import LibController, register

from .runtime import get_num_threads, set_num_threads


class Controller(LibController):
    """The thread pool of conv1x1, as threadpoolctl wants to see it."""

    user_api = "conv1x1"
    internal_api = "conv1x1"
    filename_prefixes = ("_conv1x1",)

    def get_num_threads(self) -> int:
        """The number of threads a call uses when it does not say."""
        return get_num_threads()

    def set_num_threads(self, num_threads: int) -> None:
        """Set it, for the process."""
        set_num_threads(num_threads)

    def get_version(self) -> str:
        """The version of the package."""
        from . import __version__

        return __version__


register(Controller)
