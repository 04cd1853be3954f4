"""`python -m hf_vec2vec.cli`, for launchers of several processes."""

import sys

from . import main

sys.exit(main())
