"""Find what customers complain about: the themes of the negative reviews, and their page."""
