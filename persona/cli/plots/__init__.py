"""Pictures for --plot."""
