"""
Let several servers act as one: they share jobs, keys, outages and rates in PostgreSQL.

Only `kiroworkers.server` and the commands import this package, and only with --database-file:
it needs psycopg, which is an extra.
"""
