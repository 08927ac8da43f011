"""How cryovae is used: from a shell. Interfaces parse, call and show; they hold no science."""
