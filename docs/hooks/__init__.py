"""What the site does to pages while it is built."""
