"""Lossless coding of symbols below one bit each, decodable with array operators. Pure numpy.

Symbols are small integers, drawn independently as far as the code knows. A *word* is a string of
symbols; the words of a code are the leaves of a tree, so that every sequence divides into them in
one way (Tunstall, 1967: the likeliest leaf is divided until there are enough). Likely words are
short cut: all words stand in *groups* of 2^r words each, 2^P groups at the most, each about as
likely as any other. A word is written as

    its group, P bits, in one stream (the *prefixes*)
    its place in the group, r bits, in another (the *suffixes*)

Every P bits of the first begin a word, so all words are read at once: group -> r, the sum of r
before it -> place in the second stream, both -> word, the sum of lengths before it -> place of its
symbols. A prefix code of any lengths would save another percent, but where its words begin is known
one after the other only.
"""
