"""What happens when things break: at every file effect of every command, an error and a kill."""
