"""What a person at the door sees and hears."""
