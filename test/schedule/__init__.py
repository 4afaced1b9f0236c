"""A random schedule of operations against one server, seeded and judged.

`plan` makes the schedule from a seed, `play` carries it out, `judge` and
`history` say whether the answers are ones that a right server may give, and
`remains` what is left when all is over. `run` puts them together.
"""
