"""Proposes adversarial images, judges them, and notices when something only looks robust."""
