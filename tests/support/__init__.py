"""What tests share: databases, a whole service, the whole-state checker."""
