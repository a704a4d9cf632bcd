"""Pictures of the public internet, by their URLs: fetched behind a guard."""
