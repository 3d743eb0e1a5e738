"""`python -m blinddiff`: the command line."""

import sys

from blinddiff.cli.main import main

sys.exit(main())
