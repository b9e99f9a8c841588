"""
The API, described for programs: OpenAPI 3.1.

The paths come from the route table, the tasks' schemas from the tasks, and the codes
of failures from the map that answers with them; `operations` and `schemas` say the
rest.  Source of the form: the OpenAPI Specification 3.1.1.
"""

from kiroworkers.web.openapi.document import document

__all__ = ["document"]
