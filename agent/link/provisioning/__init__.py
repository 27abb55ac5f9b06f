"""From a claim to a certificate, and from one certificate to the next."""
