"""What stands in for the parts behind the ports and behaves like them; scenes, and attacks."""
