"""A worker with one order, for tests that kill it (``python -m … ORDER``)."""

import asyncio
import sys

from temporalio.testing import ActivityEnvironment

from activities.otp import NodeActivities
from domain.hot_upgrade import NodeCommand

if __name__ == "__main__":
    order = NodeCommand.model_validate_json(sys.argv[1])
    asyncio.run(ActivityEnvironment().run(NodeActivities().command_node, order))
