"""The city's database: opened, its tables, and how they came to be."""
