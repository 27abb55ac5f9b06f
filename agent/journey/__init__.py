"""Decision to Event: place, boarding rules, pseudonyms."""
