"""
Check whether this machine can run a server with given options: ``kiroworkers doctor``.

Each check is a function that returns a `Finding`.  It takes what it looks at as parameters, so
that a test can show it a broken set-up.  `examine` runs all of them.
"""
