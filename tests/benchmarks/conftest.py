"""The suite is no part of the package that is installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
