"""kopf, the thinnest room: what happened rings a bell; one task per pipeline answers it."""
