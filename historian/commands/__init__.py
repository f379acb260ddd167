"""historian.commands: values that clients write to tags. Who may, which values may be, and each in one transaction with its audit. docs/commands.md."""
