"""
Tests for `kiroworkers.web.views`.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import FailureKind
from kiroworkers.pool.shared_outage import Outage
from kiroworkers.pool.versions import VersionSnapshot
from kiroworkers.proof.report import Level
from kiroworkers.proof.shipped import BUILT_IN, UNPROVEN, Proof
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.openapi.schemas import SCHEMAS
from kiroworkers.web.views import canary_json, pool_json, proof_json
from tests.memory import dispatcher_in


class ViewTests(SynchronousTestCase):
    """
    Tests for `pool_json`, `proof_json` and `canary_json`.
    """

    def test_outage(self) -> None:
        """
        The state of a pool names the server that reported an outage, if it was another one.
        """
        dispatcher = dispatcher_in(MemoryReactor(MemoryKiro))
        dispatcher.startService()
        for reported_by in ("other", ""):
            for delay, state in ((30.0, "throttled"), (0.0, "trying")):
                outage = Outage(FailureKind.THROTTLED, "no", False, 1, delay, False, reported_by)
                dispatcher.worker_pool.circuit_breaker.learn(outage)
                value = pool_json(dispatcher)
                self.assert_fits("Pool", value)
                self.assertEqual(value["state"], state)
                self.assertEqual(value.get("reportedBy", ""), reported_by)
                self.assertEqual("reportedBy" in value, reported_by != "")

    def assert_fits(self, name: str, value: Any) -> None:
        """
        Assert that `value` is as the API page describes it, and has nothing else.
        """
        schema = {**SCHEMAS[name], "additionalProperties": False}
        Draft202012Validator(schema).validate(value)

    def test_proof(self) -> None:
        """
        Every level and every source is described; without a report the level is ``unproven``.
        """
        for level in Level:
            self.assert_fits("Proof", proof_json(Proof(level, "2026-11-29", "package", ("x",))))
        self.assert_fits("Proof", proof_json(BUILT_IN))
        unproven = proof_json(UNPROVEN)
        self.assert_fits("Proof", unproven)
        expected: dict[str, Any] = {"level": "unproven", "date": None, "source": None, "failed": []}
        self.assertEqual(unproven, expected)

    def test_canary(self) -> None:
        """
        Every state is described; without --canary there is none.
        """
        self.assertIsNone(canary_json(None))
        for retry_after in (None, 0, 300):
            version = VersionSnapshot("refused", "2.0", "It sang.", retry_after, 1)
            value = canary_json(version)
            self.assert_fits("Canary", value)
            self.assertEqual(value and value["retryAfter"], retry_after)
        for state in ("new", "on_trial", "accepted", "inconclusive"):
            self.assert_fits("Canary", canary_json(VersionSnapshot(state, "", "x", None, 0)))
