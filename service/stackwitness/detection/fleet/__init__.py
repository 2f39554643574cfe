"""The stations of an agency beside each other: who is lower than its neighbours, apart from them, or a copy of one."""
