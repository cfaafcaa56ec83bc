"""The running service over HTTP."""

import http.client
import json
import threading
import unittest

from erlsample.counter import VERSION
from erlsample.server import Server


class ServiceTest(unittest.TestCase):
    """One server, a connection for each request."""

    def setUp(self) -> None:
        self.server = Server({"ERLSAMPLE_PORT": "0"})
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def tearDown(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def get(self, path: str) -> "tuple[int, str]":
        """Status and body of one answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=5)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def test_health_names_the_version(self) -> None:
        status, body = self.get("/health")
        self.assertEqual(status, 200)
        self.assertEqual(json.loads(body)["version"], VERSION)

    def test_an_unhealthy_counter_shows_in_health_only(self) -> None:
        self.server.counter.healthy = False
        self.assertEqual(self.get("/health")[0], 503)
        self.assertEqual(self.get("/ready")[0], 200)
        self.assertEqual(self.get("/live")[0], 200)

    def test_requests_of_users_are_counted_and_probes_are_not(self) -> None:
        self.assertEqual(self.get("/bump"), (200, "1"))
        self.assertEqual(self.get("/nothing")[0], 404)
        self.get("/health")
        metrics = self.get("/metrics")[1]
        self.assertIn("erlsample_bumps_total 1\n", metrics)
        self.assertIn(f'erlsample_requests_total{{status="200",version="{VERSION}"}} 1\n', metrics)
        self.assertIn(f'duration_seconds_count{{version="{VERSION}"}} 2\n', metrics)
