# SPDX-License-Identifier: Apache-2.0
"""Keeps observation rows: the `ObservationLog` port on a database, and its gRPC services.

May live here: schema, statements, migrations, servicers. May not: parsing of output (the
collector's), decisions about trials (the controller's).
"""
