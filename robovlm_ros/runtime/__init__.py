"""Acting: the policy engine and the execution of action chunks."""
