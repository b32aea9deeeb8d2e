"""Services: host code that performs calls, the only place with side effects."""
