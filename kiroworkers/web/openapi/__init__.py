"""
Build the OpenAPI 3.1 document that describes the server's API.

Paths, parameters and failures come from the declared routes, the schemas of tasks from the
tasks, and the codes of failures from the catalogue of errors.  `schemas` and
`components` describe what these refer to.  Source of the format: the OpenAPI Specification
3.1.1.
"""
