"""Where patches lie in a volume, how they are cut, and how they are blended back."""
