"""The scripts of this folder import each other as they do where one of them is run."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
