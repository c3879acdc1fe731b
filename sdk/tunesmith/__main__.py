# SPDX-License-Identifier: Apache-2.0
"""`python -m tunesmith`: the same as the command `tunesmith`."""

from tunesmith.cli import main

if __name__ == "__main__":
    main()
