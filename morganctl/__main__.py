"""``python -m morganctl``."""

from __future__ import annotations

import sys

from morganctl.cli import main

sys.exit(main())
