"""How far a piece of work is: its phases, how long they take, and what is shown of that."""
