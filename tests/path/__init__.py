"""Laws of weighed diffusion paths."""
