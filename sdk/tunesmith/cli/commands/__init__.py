# SPDX-License-Identifier: Apache-2.0
"""The verbs as they are typed: arguments, options, help. `app` puts them together; the work is in
`verbs`, `acts` and `services`, which are imported when a verb is run."""
