"""What can this much compute buy, and how should it be spent?"""
