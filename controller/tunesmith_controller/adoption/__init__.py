# SPDX-License-Identifier: Apache-2.0
"""What Katib has left in a cluster becomes ours: see `objects.py` (pure) and `driver.py`."""
