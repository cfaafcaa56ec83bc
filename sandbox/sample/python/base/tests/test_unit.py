"""The parts on their own."""

import pathlib
import unittest

from erlsample.counter import VERSION, Counter
from erlsample.metrics import Metrics


class CounterTest(unittest.TestCase):
    """What every version must do."""

    def test_counts_from_zero(self) -> None:
        counter = Counter()
        self.assertEqual(counter.value(), 0)
        self.assertEqual(counter.bump(), 1)
        self.assertEqual(counter.value(), 1)

    def test_a_new_counter_is_healthy(self) -> None:
        self.assertTrue(Counter().healthy)

    def test_version_is_that_of_the_release(self) -> None:
        root = pathlib.Path(__file__).parent.parent
        self.assertEqual((root / "VERSION").read_text().strip(), VERSION)


class MetricsTest(unittest.TestCase):
    """Prometheus text."""

    def test_a_duration_counts_in_every_bucket_that_holds_it(self) -> None:
        metrics = Metrics("1")
        metrics.observe(200, 0.3)
        metrics.observe(418, 60.0)
        text = metrics.exposition()
        for series in (
            'requests_total{status="200",version="1"} 1',
            'requests_total{status="418",version="1"} 1',
            'requests_total{status="500",version="1"} 0',
            'bucket{le="0.25",version="1"} 0',
            'bucket{le="0.5",version="1"} 1',
            'bucket{le="30",version="1"} 1',
            'bucket{le="+Inf",version="1"} 2',
            'sum{version="1"} 60.300000',
            'count{version="1"} 2',
        ):
            self.assertIn(f"{series}\n", text)
