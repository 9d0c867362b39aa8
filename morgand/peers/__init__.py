"""Other hosts: speak to them, answer them, choose among them."""
