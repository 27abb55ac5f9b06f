"""What is measured and made in development only; nothing a door runs imports it."""
