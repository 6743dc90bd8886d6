"""The pages of docs/ in the terminal: `topics` finds them, `plain_text` lays them out."""
