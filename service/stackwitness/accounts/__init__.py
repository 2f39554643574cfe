"""Who is calling: accounts, bearer tokens, sign-in links, sessions, roles."""
