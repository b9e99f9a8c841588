"""
Run the stand-in as ``python -m tests.kiro_acp acp …``.
"""

import sys

from tests.kiro_acp.launcher import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
