"""``python -m thread_chunks``: the command line, where the script ``thread-chunks`` is not at hand."""

import sys

from .cli import main

sys.exit(main())
