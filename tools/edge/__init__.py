"""Commands about models outside of the training machine."""
