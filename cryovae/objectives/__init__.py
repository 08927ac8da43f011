"""Where the networks meet the physics: what is given to an encoder, what must be explained, and at what price."""
