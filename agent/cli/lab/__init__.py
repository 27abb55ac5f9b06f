"""What is measured and made in development only; a door never comes here."""
