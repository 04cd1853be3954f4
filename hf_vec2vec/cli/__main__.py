"""`python -m hf_vec2vec.cli`, for launchers of several processes."""

import sys

from .main import main

sys.exit(main())
