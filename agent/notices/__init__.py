"""What residents are told before they consent: versioned texts, one a purpose and language."""
