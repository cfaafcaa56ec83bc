"""What people say to us in Slack: buttons, modals and the slash command (spec: Approval Workflow)."""
