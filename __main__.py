"""`python -m vitreid COMMAND …` is the command `vitreid`."""

import sys

from vitreid.tools.cli.main import main

sys.exit(main())
