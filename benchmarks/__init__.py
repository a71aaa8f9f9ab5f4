"""Speed, memory and training time, each as a command that prints a table: see README.md beside this file."""
