"""The same enrollment written in pure Python, as a yardstick: both ends, MAC-protected, implicit confirm."""
