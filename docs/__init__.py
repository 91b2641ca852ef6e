"""The pages of the site; the scripts behind their pictures are a package."""
