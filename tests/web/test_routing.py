"""
Tests for `kiroworkers.web.routing`, and for the declarations of the application's routes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

from klein import Klein
from treq.testing import StubTreq
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import CATALOGUE, ErrorCode
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.routing import RequestBody, Route, branch, plain_path, route, routes_of
from kiroworkers.web.tokens import SCOPES, Scope, read_tokens
from tests.jobs.support import job_service_in
from tests.memory import dispatcher_in

#: The scopes that a token may have, and what it may do with them.
GRANTS = {
    "ask": {"ask", "jobs"},
    "watch": {"watch"},
    "operate": {"operate", "watch", "jobs"},
}


class DeclarationTests(SynchronousTestCase):
    """
    Tests for `route`, `branch` and `routes_of`.
    """

    def test_documented(self) -> None:
        """
        A route has its path, its method and the text of its handler's docstring.
        """

        class Things:
            app = Klein()

            @route(app, "DELETE", "/things/<id>", scope="operate", tag="Things")
            def forget(self, request: Any, client: str, id: str) -> bytes:
                """
                Delete it.  It is ``gone``
                then.

                Args:
                    request: The request.
                    client: The client.
                    id: What to delete.
                """
                return b""

        [declared] = routes_of(Things.app, "/x")
        self.assertEqual((declared.method, declared.path), ("DELETE", "/x/things/{id}"))
        self.assertEqual((declared.name, declared.tag), ("forget", "Things"))
        self.assertEqual(declared.summary, "Delete it.")
        self.assertEqual(declared.description, "It is `gone` then.")

    def test_failures(self) -> None:
        """
        A route may fail as any request may, and as follows from its scope, parameters and
        body, and as it declares itself.
        """

        class Things:
            app = Klein()

            @route(app, "GET", "/", scope=None)
            def start(self, request: Any) -> bytes:
                return b""

            @route(
                app,
                "PUT",
                "/<id>",
                scope="ask",
                parameters=("Id",),
                body=RequestBody({}),
                failures=(ErrorCode.UNKNOWN_JOB,),
            )
            def change(self, request: Any, client: str, id: str) -> bytes:
                return b""

        public, private = (declared.failures for declared in routes_of(Things.app))
        self.assertLessEqual({ErrorCode.WRONG_HOST, ErrorCode.RATE_LIMITED}, public)
        own = {
            *(ErrorCode.NO_TOKEN, ErrorCode.WRONG_TOKEN, ErrorCode.WRONG_SCOPE),
            ErrorCode.OPERATORS_ONLY,
            *(ErrorCode.NOT_JSON, ErrorCode.UNSUPPORTED_ENCODING),
            *(ErrorCode.INVALID_JSON, ErrorCode.INVALID_INPUT),
            ErrorCode.UNKNOWN_JOB,
        }
        self.assertEqual(private - public, own)
        self.assertLessEqual(public, private)

    def test_branch(self) -> None:
        """
        The routes of a branch are listed once, below its path.
        """
        app, other = Klein(), Klein()

        @route(other, "GET", "/list", scope=None)
        def listed(self: Any, request: Any) -> bytes:
            return b""

        @branch(app, "/others", other)
        def others(self: Any, request: Any) -> Any:
            return other.resource()

        self.assertEqual([declared.path for declared in routes_of(app)], ["/others/list"])

    def test_undeclared(self) -> None:
        """
        A handler that was added without a declaration is found.
        """
        for options in ({"methods": ["GET"]}, {"branch": True}):
            app = Klein()

            @app.route("/open", **options)
            def undeclared(request: Any) -> bytes:
                return b""

            with self.assertRaisesRegex(TypeError, "^/x/open is not declared"):
                list(routes_of(app, "/x"))


class PathTests(SynchronousTestCase):
    """
    Tests for `plain_path` and `Route.matches`.
    """

    def test_plain(self) -> None:
        """
        A path that no client or proxy would change has no other spelling.
        """
        for path in ("/", "/health", "/kiro/a%20b", "/%76%31/models", "/a.b/..c", "*"):
            self.assertIsNone(plain_path(path), path)

    def test_spellings(self) -> None:
        """
        Empty segments and encoded slashes separate nothing else, and dot segments are
        resolved (RFC 3986, section 5.2.4).
        """
        for path, plain in (
            ("//", "/"),
            ("/health/", "/health"),
            ("//operator//queue", "/operator/queue"),
            ("/a/./b/../c", "/a/c"),
            ("/../../a", "/a"),
            ("/%2E%2e/a", "/a"),
            ("/a%2Fb%2f..%2fc", "/a/c"),
            ("/a/%20/", "/a/%20"),
        ):
            self.assertEqual(plain_path(path), plain, path)

    def test_encoded_slashes(self) -> None:
        """
        A variable part that takes slashes takes encoded ones, but nothing that a client or a
        proxy would change; other paths are not affected.
        """
        routes = [*routes_of(Application.app)]
        for path in ("/v1/models/a%2Fb", "/v1/models/a%2fb/c", "/v1/models/a/b"):
            self.assertIsNone(plain_path(path, routes), path)
        for path, plain in (
            ("/v1/models/a%2F", "/v1/models/a"),
            ("/v1/models/a%2F%2e%2E%2fb", "/v1/models/b"),
            ("/v1/models%2Fa", "/v1/models/a"),
            ("/jobs/a%2Fb", "/jobs/a/b"),
        ):
            self.assertEqual(plain_path(path, routes), plain, path)
        [model] = (declared for declared in routes if declared.name == "model")
        self.assertEqual(model.path, "/v1/models/{name}")
        for path, matches in (
            ("/v1/models/a", True),
            ("/v1/models/a/b/c", True),
            ("/v1/models", False),
            ("/v1/chat/a/b", False),
        ):
            self.assertIs(model.matches(path), matches, path)

    def test_matches(self) -> None:
        """
        The variable part of a path stands for one segment.
        """
        [declared] = (each for each in routes_of(Application.app) if each.name == "job")
        self.assertTrue(declared.matches("/jobs/x"))
        for path in ("/jobs", "/jobs/x/y", "/kiro/x"):
            self.assertFalse(declared.matches(path), path)


class ScopeTests(SynchronousTestCase):
    """
    Tests for every route of the application, on a pool in memory.
    """

    def setUp(self) -> None:
        reactor = MemoryReactor(MemoryKiro)
        self.dispatcher = dispatcher_in(reactor, workers=1)
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        groups, tasks = AgentGroups([AgentGroup(agent, self.dispatcher)]), builtin_tasks()
        jobs = job_service_in(reactor, groups, tasks)
        self.addCleanup(jobs.close)
        file = Path(self.mktemp())
        file.write_text("".join(f"{scope} {scope} {scope:x<20}\n" for scope in GRANTS))
        authorizer = Authorizer(read_tokens(file))
        application = Application(reactor, groups, tasks, authorizer, jobs)
        self.client: Any = StubTreq(application.resource())
        self.routes = [*routes_of(Application.app)]

    def outcome_of(self, declared: Route, token: str | None) -> tuple[int, str | None]:
        """
        Return the status and the code of a request without a body.
        """
        path = re.sub(r"{\w+}", "none", declared.path)
        headers = {} if token is None else {"Authorization": f"Bearer {token:x<20}"}
        pending = self.client.request(
            declared.method, f"http://localhost{path}", headers=headers, allow_redirects=False
        )
        self.client.flush()
        response = self.successResultOf(pending)
        if response.code < 400:
            # A stream does not end.
            return response.code, None
        content = self.successResultOf(response.content())
        self.client.flush()
        body = json.loads(content)
        error = body["error"] if isinstance(body["error"], dict) else body
        # Anthropic's format has it among the details, and that of JSON-RPC in the data.
        details = {**error, **error.get("data", {})}
        return response.code, error.get("details", {}).get("error_code") or details.get("code")

    def test_all_declared(self) -> None:
        """
        Every route of the application is declared.
        """
        declared = {(declared.method, declared.path) for declared in self.routes}
        self.assertEqual(len(declared), len(self.routes))
        for known in (
            ("POST", "/kiro/{task_name}"),
            ("DELETE", "/jobs/{id}"),
            ("PUT", "/operator/workers"),
            ("POST", "/v1/chat/completions"),
            ("POST", "/v1/messages"),
            ("POST", "/v1/responses"),
        ):
            self.assertIn(known, declared)

    def test_failures(self) -> None:
        """
        The routes declare every failure of the catalogue, except those of a bug and of a
        method that a path does not have.
        """
        declared = {failure for declared in self.routes for failure in declared.failures}
        self.assertEqual({*CATALOGUE} - declared, {ErrorCode.FAULT, ErrorCode.WRONG_METHOD})
        self.assertLessEqual(declared, {*CATALOGUE})

    def test_public(self) -> None:
        """
        Exactly these routes need no token, and answer without one.
        """
        public = [declared for declared in self.routes if declared.scope is None]
        self.assertEqual(
            {declared.path for declared in public},
            {
                *("/", "/docs", "/docs/{name}", "/kiro", "/openapi.json", "/ready"),
                *("/assets/{name}", "/session"),
            },
        )
        for declared in public:
            self.assertNotIn(self.outcome_of(declared, None)[0], (401, 403), declared.path)

    def test_areas(self) -> None:
        """
        Every other route has the scope of its part of the API.
        """
        operate = ("operator", "terminal", "recordings")
        watch = ("cluster", "health", "metrics", "watch")
        areas = {**dict.fromkeys(operate, "operate"), **dict.fromkeys(watch, "watch")}
        areas |= {"jobs": "jobs", "requests": "jobs"}
        for declared in self.routes:
            if declared.scope is not None:
                area = declared.path.split("/")[1]
                self.assertEqual(declared.scope, areas.get(area, "ask"), declared.path)

    def test_scopes(self) -> None:
        """
        Every other route refuses a request without a token and one whose token lacks the
        route's scope, before anything else, and no request whose token has it.
        """
        self.assertEqual({*GRANTS}, {*SCOPES})
        self.assertEqual(set().union(*GRANTS.values()), {*get_args(Scope)})
        for declared in self.routes:
            if declared.scope is None:
                continue
            self.assertEqual(self.outcome_of(declared, None), (401, "no_token"), declared)
            self.assertEqual(self.outcome_of(declared, "other"), (401, "wrong_token"), declared)
            for token, granted in GRANTS.items():
                status, code = self.outcome_of(declared, token)
                if declared.scope in granted:
                    self.assertNotIn(status, (401, 403), declared)
                else:
                    self.assertEqual((status, code), (403, "wrong_scope"), declared)
