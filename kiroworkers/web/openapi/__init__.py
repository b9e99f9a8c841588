"""
The OpenAPI 3.1 document that describes the server's API.

Paths come from the route table, the schemas of tasks from the tasks, and the codes of
failures from the table that maps errors to responses.  `operations` and `schemas` add
what those do not know.  Source of the format: the OpenAPI Specification 3.1.1.
"""

from kiroworkers.web.openapi.document import build_document

__all__ = ["build_document"]
