"""What tests of several rooms share: the real parts, a real server, small models."""
