"""The pictures of the pages: each module has ``numbers()``, what is measured, and ``draw(numbers)``, the picture of it."""
