"""The gallery's file: opened, checked, sealed, read and written."""
