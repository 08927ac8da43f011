"""One module a command. They parse, call and show; none imports torch before it runs."""
