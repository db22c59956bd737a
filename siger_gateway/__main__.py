"""``python -m siger_gateway`` is the same program as ``siger-gateway``."""

import sys

from siger_gateway.cli import main

sys.exit(main())
