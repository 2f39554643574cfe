"""Pages for people: server-rendered, in Chinese and English, readable without scripts."""
