"""``erlmcp-deploy backtest``: what a policy would have decided over recorded metrics."""
