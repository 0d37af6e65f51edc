"""Finds the helpers of these tests: pytest imports tests without touching the path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
