"""How well strangers are kept out and residents recognised: measured on a folder of people."""
